/**
 * `bun trial.ts ADDON`: opens and closes one of each client with an addon that is not installed yet, without a broker. What this Bun lacks of what clients
 * need ends the process, or fails, here and not in a service. Uses nothing that has to be installed.
 */
import { type Checked, checkLoaded } from './check.ts'

/** The client's native classes, as far as they are tried. */
interface NativeClient {
  connect(done: (error: unknown) => void): void
  disconnect(done: () => void): void
}

interface Addon extends Checked {
  Producer: new (settings: object, topicSettings: object) => NativeClient
  KafkaConsumer: new (settings: object, topicSettings: object) => NativeClient
}

const TRIAL_TIMEOUT_MS = 30_000

/** @returns what went wrong, in a line; undefined: nothing */
export async function whyUnusable(addon: string): Promise<string | undefined> {
  const child = Bun.spawn([process.execPath, import.meta.path, addon], {
    env: { ...process.env, DO_NOT_TRACK: '1' },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: TRIAL_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  const [said, exitCode] = await Promise.all([child.stderr.text(), child.exited])
  return exitCode === 0 ? undefined : (faultIn(said) ?? `exit code ${child.signalCode ?? exitCode}`)
}

/** The line of a runtime's or linker's output that says what is wrong. */
export function faultIn(said: string): string | undefined {
  const lines = said.split('\n')
  // Bun shows the source beside an error, in which the word may be, too.
  return lines.find((line) => /^(panic|\w*error)\b/i.test(line))
}

if (import.meta.main) {
  const addon = require(process.argv[2] as string) as Addon
  checkLoaded(addon)
  // Nobody listens at this port; librdkafka goes on trying while the client is closed.
  const settings = { 'bootstrap.servers': '127.0.0.1:1', log_level: 0 }
  for (const client of [
    new addon.Producer(settings, {}),
    new addon.KafkaConsumer({ ...settings, 'group.id': 'trial' }, {}),
  ]) {
    await new Promise<void>((resolve, reject) =>
      client.connect((error) =>
        error ? reject(new Error(`a client cannot be opened: ${Bun.inspect(error)}`)) : resolve(),
      ),
    )
    await new Promise<void>((resolve) => client.disconnect(resolve))
  }
  process.exit(0)
}
