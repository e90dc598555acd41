# Redirects connections of this machine to one of its TCP ports to another one, as container engines do for published
# ports: `redirect FROM TO`. Uses the kernel's own interface (linux/netfilter/nf_tables.h), because machines have no nft.
use strict;
use warnings;
my ($from, $to) = @ARGV;
my $number = 0;

sub attribute { my ($type, $value) = @_; my $size = 4 + length $value; pack('SS', $size, $type) . $value . "\0" x (-$size % 4) }
sub nested { my ($type, @inner) = @_; attribute($type | 0x8000, join '', @inner) }
sub text { my ($type, $value) = @_; attribute($type, "$value\0") }
sub word { my ($type, $value) = @_; attribute($type, pack 'N', $value) }
sub port { my ($type, $value) = @_; nested($type, attribute(1, pack 'n', $value)) }
sub expression { my ($name, @inner) = @_; nested(1, text(1, $name), nested(2, @inner)) }

# Flags: 1 request, 4 acknowledge, 0x400 create, 0x800 append. Family: 2 is IPv4.
sub message {
    my ($type, $flags, $family, $id, @inner) = @_;
    my $body = pack('CCn', $family, 0, $id) . join '', @inner;
    pack('LSSLL', 16 + length $body, $type, $flags, ++$number, 0) . $body;
}

my @table = (text(1, 'redirect'));
# the hook of outgoing packets, at the priority of destination NAT
my @chain = (@table, text(3, 'output'), nested(4, word(1, 3), word(2, 2**32 - 100)), text(7, 'nat'));
my @rule = (
    @table,
    text(2, 'output'),
    nested(4,
        expression('payload', word(1, 1), word(2, 2), word(3, 2), word(4, 2)), # the destination port
        expression('cmp', word(1, 1), word(2, 0), port(3, $from)),
        expression('immediate', word(1, 1), port(2, $to)),
        expression('redir', word(1, 1))));
my @batch = (
    message(16, 1, 0, 10),
    message(0xa00, 0x405, 2, 0, @table),
    message(0xa03, 0x405, 2, 0, @chain),
    message(0xa06, 0xc05, 2, 0, @rule),
    message(17, 1, 0, 10));
socket(my $netlink, 16, 3, 12) or die "the kernel has no netfilter: $!\n";
send($netlink, join('', @batch), 0, pack 'SSLL', 16, 0, 0, 0) or die "not sent: $!\n";
for (1 .. 3) {
    recv($netlink, my $answer, 4096, 0);
    my $error = unpack 'x16 l', $answer;
    next unless $error;
    $! = -$error;
    die(($!{EOPNOTSUPP} || $!{ENOENT} || $!{EINVAL} ? 'the kernel has no redirection' : 'refused') . ": $!\n");
}
