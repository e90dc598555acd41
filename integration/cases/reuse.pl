# reuse.pl SOCKET NAME GROUP ANSWER: connects in a process that then ends, and has another process with its PID join a control group, while the
# provider is suspended. Then continues the provider (its PID is on standard input), and writes what was received to the file ANSWER.
use strict;
use Socket;
my ($path, $name, $group, $answer) = @ARGV;
chomp(my $provider = <STDIN>);
kill 'STOP', $provider or die "no provider";

sub connected_by_a_process_that_has_ended {
    socket(my $socket, PF_UNIX, SOCK_STREAM, 0) or die;
    bind($socket, pack_sockaddr_un("\0" . unpack('H*', pack 'N2', rand 2**32, rand 2**32) . "/$name")) or die "bind: $!";
    my $pid = fork // die;
    if (!$pid) { connect($socket, pack_sockaddr_un($path)) or die "connect: $!"; exit }
    waitpid $pid, 0;
    die "not connected" if $?;
    return ($socket, $pid);
}

# starts a process with this PID that joins the control group, and returns when it has
sub take {
    my ($pid) = @_;
    my $wanted = pack 'i', $pid;
    # clone3: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup
    my $arguments = pack 'Q11', 0, 0, 0, 0, 17, 0, 0, 0, unpack('Q', pack 'P', $wanted), 1, 0;
    pipe(my $in, my $out) or die;
    my $next = syscall 435, $arguments, length $arguments;
    if (!$next) {
        open my $procs, '>', "$group/cgroup.procs" or die "$group: $!";
        print $procs $pid;
        close $procs or die "$group: $!";
        close $out;
        sleep 1000;
        exit;
    }
    die "no process with PID $pid: $!" if $next != $pid;
    close $out;
    <$in>;
}

my ($socket, $pid) = connected_by_a_process_that_has_ended();
eval { take($pid) };
my $problem = $@;
my $in_group = $problem ? '' : do { local (@ARGV, $/) = "/proc/$pid/cgroup"; <> };
kill 'CONT', $provider;
die $problem if $problem;
open my $to, '>', $answer or die;
# a refusal is longer than any credential, and ends when the reader does
for (1 .. 64) { print $to $_ if sysread $socket, $_, 65536 }
close $to or die;
kill 'KILL', $pid;
print $in_group;
