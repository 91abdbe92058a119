import { join } from 'node:path'
import { provideBuilt, runTool, UnavailableError } from '../../shared/dev/built.ts'
import { startHttpProcess } from './http-process.ts'
import type { System } from './system.ts'

/** The peers in Python. */

const PEERS = join(import.meta.dir, '../peers')
const PLATFORM = `${process.platform}-${process.arch}`
const INSTALL_PYTHON = 'install it with: apt-get install python3 python3-venv'
/** The first version whose `datetime` parses RFC 3339. */
const OLDEST_PYTHON = '3.11'

interface PythonPeer {
  name: string
  facts: Omit<System['facts'], 'name' | 'kind' | 'sameGuarantees'>
  /** Packages whose versions are reported. */
  packages: readonly string[]
}

function pythonPeer({ name, facts, packages }: PythonPeer): System {
  const source = join(PEERS, name)
  const requirements = join(source, 'requirements.txt')
  const install = async (say: (progress: string) => void): Promise<string> => {
    const version = await pythonVersion()
    return provideBuilt({
      name,
      files: [requirements],
      made: [PLATFORM, version],
      async build(into) {
        say(`installing ${packages.join(', ')}`)
        await canMakeEnvironments()
        // Only commands that nobody runs contain absolute paths, so it can be moved.
        await runTool(['python3', '-m', 'venv', into], source, INSTALL_PYTHON)
        const options = ['--quiet', '--only-binary', ':all:', '--disable-pip-version-check', '-r', requirements]
        await runTool([pythonOf(into), '-m', 'pip', 'install', ...options], source, INSTALL_PYTHON)
      },
    })
  }
  return {
    facts: { name, kind: 'peer', sameGuarantees: true, ...facts },
    async prepare(say) {
      await install(say)
      return { python: await pythonVersion(), ...pinned(await Bun.file(requirements).text(), packages) }
    },
    start: async ({ brokers, topic, port, directory }) =>
      startHttpProcess({
        name,
        command: [pythonOf(await install(() => undefined)), '-B', join(source, 'server.py')],
        env: { KAFKA_BROKERS: brokers, TOPIC: topic },
        port,
        directory,
      }),
  }
}

const pythonOf = (environment: string): string => join(environment, 'bin/python')

/** @throws UnavailableError when it is missing or too old */
async function pythonVersion(): Promise<string> {
  const version = /\d[\d.]*/.exec(await runTool(['python3', '--version'], PEERS, INSTALL_PYTHON))?.[0] ?? 'unknown'
  if (Bun.semver.order(version, `${OLDEST_PYTHON}.0`) < 0)
    throw new UnavailableError(`Python ${version} is too old: ${OLDEST_PYTHON} or newer is needed`)
  return version
}

/** Debian's python3 lacks it. @throws UnavailableError */
async function canMakeEnvironments(): Promise<void> {
  try {
    await runTool(['python3', '-c', 'import ensurepip, venv'], PEERS, INSTALL_PYTHON)
  } catch {
    throw new UnavailableError(
      'python3 cannot make virtual environments; install them with: apt-get install python3-venv',
    )
  }
}

/** The versions of some packages in requirements.txt. */
export function pinned(requirements: string, packages: readonly string[]): Record<string, string> {
  const versions = new Map(requirements.split('\n').map((line) => line.split('==') as [string, string]))
  return Object.fromEntries(packages.map((name) => [name, versions.get(name) ?? 'unknown']))
}

const UVICORN_SETTINGS = { workers: '1', 'event loop': 'uvloop', 'HTTP parser': 'httptools', 'access log': 'off' }
const ONE_PROCESS = 'Validation by a Pydantic model. One worker, since every system here is one process.'

const FASTAPI_CONFLUENT = pythonPeer({
  name: 'fastapi-confluent',
  facts: {
    title: 'Python: FastAPI + confluent-kafka',
    settings: {
      acks: 'all',
      idempotence: 'on',
      linger: '1 ms',
      compression: 'lz4',
      'delivery timeout': '10 s',
      'delivery reports': 'polled on the event loop, 1 ms apart',
      ...UVICORN_SETTINGS,
    },
    notes: `${ONE_PROCESS} The client’s AIOProducer takes no headers; hence its Producer.`,
  },
  packages: ['fastapi', 'uvicorn', 'uvloop', 'httptools', 'pydantic', 'confluent-kafka'],
})

const FASTAPI_AIOKAFKA = pythonPeer({
  name: 'fastapi-aiokafka',
  facts: {
    title: 'Python: FastAPI + aiokafka',
    settings: {
      acks: 'all',
      idempotence: 'on',
      'requests in flight': '1 to a broker, the most that it takes',
      linger: 'none: what comes while a request is in flight goes out together in the next',
      'batch of a partition': 'up to 512 KiB',
      compression: 'lz4',
      'delivery timeout': '10 s',
      ...UVICORN_SETTINGS,
    },
    notes: ONE_PROCESS,
  },
  packages: ['fastapi', 'uvicorn', 'uvloop', 'httptools', 'pydantic', 'aiokafka'],
})

export const PYTHON_PEERS: readonly System[] = [FASTAPI_CONFLUENT, FASTAPI_AIOKAFKA]
