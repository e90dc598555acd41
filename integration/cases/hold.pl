# Occupies as many connections of systemd-creds.socket as possible, as an unprivileged user, and tries to get another every second.
# A connection counts after the other side has answered; until then it can still be refused. usage: hold.pl UID
use strict;
use Socket;
my ($uid) = @ARGV;
$) = "$uid $uid"; $( = $uid; $> = $uid; $< = $uid;
die "still root" if $< == 0 || $> == 0;
$SIG{PIPE} = 'IGNORE';
my $address = pack_sockaddr_un("/run/systemd/io.systemd.Credentials");
my @held;
while (1) {
    socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
    my $answer = 0;
    if (connect($socket, $address)) {
        syswrite($socket, "{\"method\":\"org.varlink.service.GetInfo\"}\0");
        $answer = sysread($socket, my $text, 65536);
    }
    if ($answer) { push @held, $socket } else { select(undef, undef, undef, 1) }
}
