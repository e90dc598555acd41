# Listens at a path in place of another program, and sends a text to each client. usage: foreign.pl PATH
use strict;
use Socket;
my ($path) = @ARGV;
$SIG{PIPE} = 'IGNORE';
socket(my $listener, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
unlink "$path.new";
bind($listener, pack_sockaddr_un("$path.new")) or die "bind: $!";
listen($listener, 64) or die "listen: $!";
rename("$path.new", $path) or die "rename: $!";
exit if fork; # the unit is of Type=forking
while (accept(my $client, $listener)) { syswrite($client, "foreign"); close $client }
