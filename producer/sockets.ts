import { dlopen, ptr } from 'bun:ffi'
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { turn } from '../shared/service/retry.ts'

/**
 * The sockets behind a port of this process. Bun's server closes its listening socket and its idle connections together, which loses requests that are on their
 * way. On Linux the listening socket can be closed alone.
 */

const SOL_SOCKET = 1
const SO_ACCEPTCONN = 30
const IPPROTO_TCP = 6
const TCP_INFO = 11
const TCP_NOTSENT_LOWAT = 25
/** In `struct tcp_info` of a listening socket: connections that wait to be accepted (tcpi_unacked). */
const TCP_INFO_WAITING_AT = 24

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
    recv: { args: ['i32', 'ptr', 'u64', 'i32'], returns: 'i64' },
  }).symbols

export interface Sockets {
  /** Counts the open connections that were accepted at the port. */
  connections(port: number): number
  /** Counts those on which bytes have arrived that are not read yet. */
  unread(port: number): number
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

  const hasUnread = (fd: number): boolean => Number(c.recv(fd, ptr(info), 1, MSG_PEEK | MSG_DONTWAIT)) > 0

  return {
    connections: (port) => at(port).filter(({ listens }) => !listens).length,
    unread: (port) => at(port).filter(({ fd, listens }) => !listens && hasUnread(fd)).length,
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
