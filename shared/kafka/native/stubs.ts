/**
 * Finds the functions of libuv that are stubs in this Bun. It exports all of libuv's names, but most functions end the process, which only a call
 * shows. Each is called in a child process. Imports no packages.
 */
import { CFunction, dlopen, JSCallback, type Pointer, ptr } from 'bun:ffi'

/** @returns the functions that are stubs, in the given order */
export async function stubsAmong(names: readonly string[]): Promise<string[]> {
  const isStub = await Promise.all(
    names.map(async (name) => (await endsAsStub(name, 'memory')) && (await endsAsStub(name, 'handle'))),
  )
  return names.filter((_, index) => isStub[index])
}

/** A stub fails with either argument. A function that works may fail like a stub without a handle, but not with one. */
type Argument = 'memory' | 'handle'

const CALL_TIMEOUT_MS = 10_000

async function endsAsStub(name: string, argument: Argument): Promise<boolean> {
  const child = Bun.spawn([process.execPath, import.meta.path, name, argument], {
    // Crashes are expected and not worth a report.
    env: { ...process.env, DO_NOT_TRACK: '1' },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: CALL_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  const [said] = await Promise.all([child.stderr.text(), child.exited])
  // If no handle can be opened, functions that take one cannot work.
  return said.includes(`unsupported uv function: ${argument === 'handle' ? 'uv_' : `${name}\n`}`)
}

const ARGUMENT_BYTES = 4_096
const ALL_POINTERS = { args: ['ptr', 'ptr', 'ptr', 'ptr'], returns: 'ptr' } as const

/** Calls a function with zeroed memory or an open handle. */
function callInThisProcess(name: string, argument: Argument): void {
  const { symbols } = dlopen('libc.so.6', { dlsym: { args: ['ptr', 'ptr'], returns: 'ptr' } })
  const find = (symbol: string): Pointer => {
    const address = symbols.dlsym(null, ptr(Buffer.from(`${symbol}\0`)))
    if (address === null) throw new Error(`this Bun does not export ${symbol}`)
    return Number(address) as Pointer
  }
  const call = (symbol: string, ...given: (Pointer | null)[]): Pointer | null =>
    CFunction({ ptr: find(symbol), ...ALL_POINTERS })(...given)
  const memory = ptr(new Uint8Array(ARGUMENT_BYTES))
  if (argument === 'handle') {
    const called = new JSCallback(() => undefined, {}).ptr
    call('uv_async_init', call('uv_default_loop', null, null, null, null), memory, called, null)
    call(name, memory, null, null, null)
  } else call(name, memory, memory, memory, memory)
}

if (import.meta.main) {
  const [name = '', argument] = process.argv.slice(2)
  callInThisProcess(name, argument === 'handle' ? 'handle' : 'memory')
  // The open handle would keep the process alive.
  process.exit(0)
}
