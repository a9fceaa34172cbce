//! Relays a terminal of the jail to the terminal of ezz.
//!
//! crun creates the pty in the jail, and passes its other end over a socket. crun could relay it as well, but up to 1.8
//! it does not pass on a new size of the window. The jail's processes never get a descriptor of the host's terminal.

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use crate::exec::signals::Caught;

/// The number of bytes that are copied at once.
const CHUNK: usize = 16 * 1024;

/// The socket over which crun passes the terminal.
#[derive(Debug)]
pub(super) struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// Creates the socket in a directory that only root can access.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join(format!("tty-{}", std::process::id()));
        super::paths::remove(&path)?;
        let listener = UnixListener::bind(&path)?;
        Ok(Console { listener, path })
    }

    /// Returns the path of the socket, for crun.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs crun, and relays until it ends. crun passes on the signals that it gets. There is no limit, because the
    /// administrator has requested the command.
    pub(super) fn run(&self, mut command: Command) -> io::Result<ExitStatus> {
        let caught = Caught::new(false)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        drop(command);
        let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        std::thread::scope(|scope| {
            let relay = scope.spawn(|| {
                let relayed = self.relay(&ended);
                if relayed.is_err() {
                    // It may have just ended.
                    let _ = pidfd_send_signal(&ended, Signal::KILL);
                }
                relayed
            });
            let status = caught.until_ended(&mut child)?;
            let relayed = relay.join();
            relayed.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
            Ok(status)
        })
    }

    fn relay(&self, ended: &OwnedFd) -> io::Result<()> {
        let ready = wait(&[
            (self.listener.as_fd(), PollFlags::POLLIN),
            (ended.as_fd(), PollFlags::POLLIN),
        ])?;
        if ready[0].is_empty() {
            // crun has failed, and has logged the reason.
            return Ok(());
        }
        let (socket, _) = self.listener.accept()?;
        let master = receive(&socket)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let raw = Raw::set()?;
        let result = shuttle(master, ended);
        drop(raw);
        result
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // If the removal fails, the next process with this process id removes the socket.
        let _ = super::paths::remove(&self.path);
    }
}

/// Returns the descriptor that came with a message.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 256];
    let mut parts = [IoSliceMut::new(&mut name)];
    recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// Sets ezz's terminal to raw mode until this is dropped.
struct Raw(Termios);

impl Raw {
    fn set() -> io::Result<Self> {
        let saved = tcgetattr(io::stdin())?;
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Raw(saved))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // If the terminal does not exist any more, there is nothing to restore.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// Copies bytes and window sizes until the command has ended and its last output was copied.
fn shuttle(master: OwnedFd, ended: &OwnedFd) -> io::Result<()> {
    let stdin = io::stdin();
    let resize = |master: &File| match tcgetwinsize(&stdin) {
        Ok(size) => Ok(tcsetwinsize(master, size)?),
        Err(_) => Ok::<(), io::Error>(()),
    };
    let (mut winch, handler) = UnixStream::pair()?;
    winch.set_nonblocking(true)?;
    let signal = signal_hook::low_level::pipe::register(signal_hook::consts::SIGWINCH, handler)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    let mut master = File::from(master);
    let mut input = Input::default();
    let result = (|| {
        resize(&master)?;
        loop {
            let ready = wait(&[
                (master.as_fd(), PollFlags::POLLIN | input.wants_out()),
                (ended.as_fd(), PollFlags::POLLIN),
                (winch.as_fd(), PollFlags::POLLIN),
                (stdin.as_fd(), input.wants_in()),
            ])?;
            if !ready[2].is_empty() {
                let _ = winch.read(&mut [0; 64]);
                resize(&master)?;
            }
            if ready[0].intersects(PollFlags::POLLIN | PollFlags::POLLHUP) && !output(&mut master)?
            {
                return Ok(());
            }
            // A process of the jail may keep the terminal open after the command has ended.
            if !ready[1].is_empty() && !ready[0].contains(PollFlags::POLLIN) {
                return Ok(());
            }
            input.read(ready[3])?;
            input.write(&mut master)?;
        }
    })();
    signal_hook::low_level::unregister(signal);
    result
}

/// Input that was typed but is not yet in the jail, which may not be reading.
#[derive(Default)]
struct Input {
    pending: Vec<u8>,
    closed: bool,
}

impl Input {
    fn wants_in(&self) -> PollFlags {
        if self.pending.is_empty() && !self.closed {
            PollFlags::POLLIN
        } else {
            PollFlags::empty()
        }
    }

    fn wants_out(&self) -> PollFlags {
        if self.pending.is_empty() {
            PollFlags::empty()
        } else {
            PollFlags::POLLOUT
        }
    }

    fn read(&mut self, ready: PollFlags) -> io::Result<()> {
        if ready.is_empty() || self.closed {
            return Ok(());
        }
        let mut chunk = [0; CHUNK];
        // The buffered reader of the standard library would hide bytes from poll.
        match rustix::io::read(io::stdin(), &mut chunk) {
            Ok(0) => self.closed = true,
            Ok(n) => self.pending.extend_from_slice(&chunk[..n]),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            // The terminal of ezz does not exist any more.
            Err(_) => self.closed = true,
        }
        Ok(())
    }

    fn write(&mut self, master: &mut File) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match master.write(&self.pending) {
            Ok(n) => {
                self.pending.drain(..n);
                Ok(())
            }
            Err(e) if would_wait(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// Copies what the jail has written; returns false at the end.
fn output(master: &mut File) -> io::Result<bool> {
    let mut chunk = [0; CHUNK];
    match master.read(&mut chunk) {
        Ok(0) => Ok(false),
        Ok(n) => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&chunk[..n])?;
            stdout.flush()?;
            Ok(true)
        }
        Err(e) if would_wait(&e) => Ok(true),
        // The jail's side is closed: pty(7).
        Err(e) if e.raw_os_error() == Some(nix::libc::EIO) => Ok(false),
        Err(e) => Err(e),
    }
}

fn would_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Waits without a limit until one of the descriptors is ready, and returns for what each is ready.
fn wait<const N: usize>(
    descriptors: &[(BorrowedFd<'_>, PollFlags); N],
) -> io::Result<[PollFlags; N]> {
    let mut polled = descriptors.map(|(fd, events)| PollFd::new(fd, events));
    loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => break,
        }
    }
    Ok(polled.map(|fd| fd.revents().unwrap_or(PollFlags::empty())))
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    #[test]
    fn a_descriptor_comes_over_the_socket() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (read, write) = nix::unistd::pipe().expect("a pipe");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [write.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let name = [IoSlice::new(b"/dev/pts/0")];
        sendmsg(&theirs, &name, &mut control, SendFlags::empty()).expect("sent");
        let fd = receive(&ours).expect("received").expect("a descriptor");
        drop(write);
        File::from(fd).write_all(b"x").expect("written");
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).expect("read");
        assert_eq!(text, "x");
        drop(theirs);
        assert!(receive(&ours).expect("the end").is_none());
    }

    #[test]
    fn what_is_typed_waits_for_the_jail() {
        let (read, write) = nix::unistd::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&write, true).expect("set");
        let mut full = File::from(write);
        let mut input = Input {
            pending: vec![b'x'; 1 << 20],
            closed: false,
        };
        input.write(&mut full).expect("a part");
        input.write(&mut full).expect("nothing more");
        assert!(!input.pending.is_empty() && input.pending.len() < 1 << 20);
        assert_eq!(input.wants_in(), PollFlags::empty());
        assert_eq!(input.wants_out(), PollFlags::POLLOUT);
        drop(read);
    }
}
