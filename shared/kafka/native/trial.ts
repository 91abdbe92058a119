/**
 * `bun trial.ts ADDON`: opens and closes one client of each kind with an addon that is not installed yet, without a broker. Whatever this Bun
 * lacks then fails here, and not in a service. Imports no packages.
 */
import { type Checked, checkLoaded } from './check.ts'

/** The methods of the client's native classes that are tried. */
interface NativeClient {
  connect(done: (error: unknown) => void): void
  disconnect(done: () => void): void
}

interface Addon extends Checked {
  Producer: new (settings: object, topicSettings: object) => NativeClient
  KafkaConsumer: new (settings: object, topicSettings: object) => NativeClient
}

const TRIAL_TIMEOUT_MS = 30_000

/** @returns the error in one line; undefined when the addon works */
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

/** The line of a runtime's or linker's output that names the error. */
function faultIn(said: string): string | undefined {
  const lines = said.split('\n')
  // At the beginning of the line: Bun also prints the source, which may contain these words.
  return lines.find((line) => /^(panic|\w*error)\b/i.test(line))
}

if (import.meta.main) {
  const addon = require(process.argv[2] as string) as Addon
  checkLoaded(addon)
  // Nothing listens at this port; librdkafka keeps trying until the client is closed.
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
