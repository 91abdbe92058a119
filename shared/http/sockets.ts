import { dlopen, ptr } from 'bun:ffi'
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { turn } from '../service/retry.ts'

/**
 * The sockets behind a port of this process. Bun's server closes its listening socket and its idle connections together, which loses requests that are on their
 * way, and it cannot change its certificate. On Linux the listening socket can be closed alone, and handed to another server.
 */

const SOL_SOCKET = 1
const SO_ACCEPTCONN = 30
const IPPROTO_TCP = 6
const TCP_INFO = 11
const TCP_NOTSENT_LOWAT = 25
/** In `struct tcp_info` of a listening socket: connections that wait to be accepted (tcpi_unacked). */
const TCP_INFO_WAITING_AT = 24

/** epoll_ctl(2). */
const EPOLL_CTL_ADD = 1
const EPOLL_CTL_DEL = 2
/** Where `struct epoll_event` has its data: the structure is packed on x86-64 alone. */
const EPOLL_DATA_AT = process.arch === 'x64' ? 4 : 8

const MSG_PEEK = 0x2
const MSG_DONTWAIT = 0x40

/** Longer than any address. */
const ADDRESS_BYTES = 128
const TCP_INFO_BYTES = 256

/** How long waiting connections are accepted before the socket is closed. */
const ACCEPT_TIMEOUT_MS = 250

const libc = () =>
  dlopen('libc.so.6', {
    getsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'ptr'], returns: 'i32' },
    setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'u32'], returns: 'i32' },
    getsockname: { args: ['i32', 'ptr', 'ptr'], returns: 'i32' },
    dup2: { args: ['i32', 'i32'], returns: 'i32' },
    epoll_ctl: { args: ['i32', 'i32', 'i32', 'ptr'], returns: 'i32' },
    recv: { args: ['i32', 'ptr', 'u64', 'i32'], returns: 'i64' },
  }).symbols

/** The listening socket of a port. */
export interface Accepting {
  /** Connections wait in the kernel from now on. */
  pause(): void
  resume(): void
}

export interface Sockets {
  /** undefined where the event loop is not found to have it. Holds until it is handed over, or closed. */
  accepting(port: number): Accepting | undefined
  /** Counts the open connections that were accepted at the port. */
  connections(port: number): number
  /** Counts those on which bytes have arrived that are not read yet. */
  unread(port: number): number
  /** What tells these connections from all later ones. */
  connectionIds(port: number): ReadonlySet<string>
  /**
   * Hands the listening socket of one port to the server that listens at another, which then accepts what arrives at the first, and gives up its own. Connections
   * stay with the server that accepted them; no connection is refused or reset, since the socket stays open.
   * @returns false where it cannot be done, and nothing has changed
   */
  handOver(port: number, toServerOf: number): boolean
  /**
   * Limits how many unsent bytes the kernel takes on each connection accepted from now on. With megabytes in its buffers, a slow reader seems not to read for
   * minutes, since the kernel asks for more only when a third of them is free.
   */
  limitUnsent(port: number, bytes: number): void
  /**
   * Accepts waiting connections, then closes the listening socket; connections stay open. A connection that is being established at that moment is reset, unless
   * the kernel hands it to another process that listens at the port (net.ipv4.tcp_migrate_req=1).
   */
  stopListening(port: number): Promise<void>
}

/** Whether the kernel hands connections being established to another process when one stops listening (Linux 5.14 or later); undefined if unknown. */
export function kernelHandsOver(): boolean | undefined {
  try {
    return readFileSync('/proc/sys/net/ipv4/tcp_migrate_req', 'utf8').trim() === '1'
  } catch {
    return undefined
  }
}

/** undefined on anything but Linux with glibc. */
export function openSockets(): Sockets | undefined {
  if (process.platform !== 'linux') return undefined
  let c: ReturnType<typeof libc>
  try {
    c = libc()
  } catch {
    return undefined
  }
  const number = new Int32Array(1)
  const length = new Uint32Array(1)
  const address = new DataView(new ArrayBuffer(ADDRESS_BYTES))
  const info = new DataView(new ArrayBuffer(TCP_INFO_BYTES))

  const at = (port: number): { fd: number; listens: boolean }[] =>
    readdirSync('/proc/self/fd').flatMap((name) => {
      const fd = Number(name)
      length[0] = ADDRESS_BYTES
      if (c.getsockname(fd, ptr(address), ptr(length)) !== 0 || address.getUint16(2) !== port) return []
      length[0] = number.byteLength
      const asked = c.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, ptr(number), ptr(length))
      return [{ fd, listens: asked === 0 && number[0] === 1 }]
    })

  const waiting = (fd: number): number => {
    length[0] = TCP_INFO_BYTES
    return c.getsockopt(fd, IPPROTO_TCP, TCP_INFO, ptr(info), ptr(length)) === 0
      ? info.getUint32(TCP_INFO_WAITING_AT, true)
      : 0
  }

  /** What the event loop has for a listening socket. `/proc` shows it with the number of epoll's own descriptor (proc(5), fdinfo). */
  const registrationOf = (fd: number): { epoll: number; event: DataView } | undefined => {
    const line = new RegExp(`^tfd:\\s*${fd} events:\\s*([0-9a-f]+) data:\\s*([0-9a-f]+)`, 'm')
    for (const name of readdirSync('/proc/self/fd')) {
      const found = linkOf(name) === 'anon_inode:[eventpoll]' ? line.exec(textOf(`/proc/self/fdinfo/${name}`)) : null
      if (found === null) continue
      const event = new DataView(new ArrayBuffer(EPOLL_DATA_AT + 8))
      event.setUint32(0, Number.parseInt(found[1] ?? '', 16), true)
      event.setBigUint64(EPOLL_DATA_AT, BigInt(`0x${found[2]}`), true)
      return { epoll: Number(name), event }
    }
    return undefined
  }

  const hasUnread = (fd: number): boolean => Number(c.recv(fd, ptr(info), 1, MSG_PEEK | MSG_DONTWAIT)) > 0

  return {
    accepting(port) {
      const [socket] = at(port).filter(({ listens }) => listens)
      const registered = socket && registrationOf(socket.fd)
      if (socket === undefined || registered === undefined) return undefined
      const { epoll, event } = registered
      return {
        pause: () => void c.epoll_ctl(epoll, EPOLL_CTL_DEL, socket.fd, ptr(event)),
        resume: () => void c.epoll_ctl(epoll, EPOLL_CTL_ADD, socket.fd, ptr(event)),
      }
    },
    connections: (port) => at(port).filter(({ listens }) => !listens).length,
    unread: (port) => at(port).filter(({ fd, listens }) => !listens && hasUnread(fd)).length,
    connectionIds: (port) => new Set(at(port).flatMap(({ fd, listens }) => (listens ? [] : [linkOf(String(fd))]))),
    handOver(port, toServerOf) {
      const [from, ...more] = at(port).filter(({ listens }) => listens)
      const [to, ...others] = at(toServerOf).filter(({ listens }) => listens)
      if (from === undefined || to === undefined || more.length > 0 || others.length > 0) return false
      const own = registrationOf(from.fd)
      const registered = registrationOf(to.fd)
      if (own === undefined || registered === undefined || own.epoll !== registered.epoll) return false
      const { epoll, event } = registered
      const nothing = openSync('/dev/null', 'r')
      c.epoll_ctl(epoll, EPOLL_CTL_DEL, to.fd, ptr(event))
      const taken = c.dup2(from.fd, to.fd) === to.fd && c.epoll_ctl(epoll, EPOLL_CTL_ADD, to.fd, ptr(event)) === 0
      if (taken) {
        c.epoll_ctl(epoll, EPOLL_CTL_DEL, from.fd, ptr(own.event))
        c.dup2(nothing, from.fd)
      }
      closeSync(nothing)
      return taken
    },
    limitUnsent(port, bytes) {
      // A connection inherits the options of its listening socket.
      for (const { fd, listens } of at(port)) {
        if (!listens) continue
        number[0] = bytes
        c.setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, ptr(number), number.byteLength)
      }
    },
    async stopListening(port) {
      const nothing = openSync('/dev/null', 'r')
      for (const { fd, listens } of at(port)) {
        if (!listens) continue
        const deadline = performance.now() + ACCEPT_TIMEOUT_MS
        // Bun accepts all waiting connections in one turn of its event loop.
        while (waiting(fd) > 0 && performance.now() < deadline) await turn()
        // Bun keeps the descriptor, which now never becomes ready.
        c.dup2(nothing, fd)
      }
      closeSync(nothing)
    },
  }
}

/** What a descriptor of this process is: of a socket, its inode. Empty when it is gone. */
function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
