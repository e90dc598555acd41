#!/usr/bin/perl
# Reads two files of one item in a loop through their directory, and records each pair once. It starts no processes, because they
# would take the processors from the programs under test.
use strict;
use warnings;

sub content {
    open(my $file, '<', $_[0]) or return undef;
    local $/;
    return <$file> // '';
}

open(my $reads, '>>', '/srv/out/reads') or die $!;
$reads->autoflush(1);
my %seen;
until (-e '/srv/out/enough') {
    if (chdir '/run/secrets/pair') {
        my ($user, $password) = (content('user'), content('password'));
        chdir '/' or die $!;
        if (defined $user && defined $password) {
            print $reads "$user $password\n" unless $seen{"$user $password"}++;
        }
    }
    select(undef, undef, undef, 0.001);
}
