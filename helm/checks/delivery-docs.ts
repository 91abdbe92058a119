import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Manifest, manifestsOf, withCharts } from './charts-render.ts'
import { type Check, type Outcome, root, run } from './check.ts'
import { alternatives, OWN_PATH } from './delivery-workflows.ts'
import { tool } from './tools.ts'

/** Checks that commands in the documents name things that exist. */

const documents = [
  'README.md',
  'docs/architecture.md',
  'docs/decisions.md',
  'docs/deployment.md',
  'docs/fault-runs.md',
  'docs/guarantees.md',
  'docs/handlers.md',
  'docs/operations.md',
  'docs/performance.md',
  'docs/runbooks/console.md',
  'docs/runbooks/consumer.md',
  'docs/runbooks/producer.md',
  'docs/runbooks/slo.md',
  'docs/security.md',
  'docs/where-is-my-event.md',
  '.github/CONTRIBUTING.md',
]
const publishedChart = /^oci:\/\/ghcr\.io\/kafkatrace\/charts\/(\w+)$/

/** The commands of a document's ```sh blocks: continuation lines joined, comments and here-documents removed. */
export function commandsIn(markdown: string): string[] {
  const commands: string[] = []
  for (const [, block = ''] of markdown.matchAll(/^ *```sh\n(.*?)^ *```$/gms)) {
    let end: string | undefined
    for (const line of block
      .replaceAll(/\s*\\\n\s*/g, ' ')
      .split('\n')
      .map((one) => one.trim())) {
      if (end !== undefined) {
        if (line === end) end = undefined
        continue
      }
      if (line === '' || line.startsWith('#')) continue
      end = /<<'?(\w+)'?/.exec(line)?.[1]
      commands.push(line)
    }
  }
  return commands
}

/** A command's words as the shell splits them, without quotes. Substitutions stay as they are. */
export const wordsOf = (command: string): string[] =>
  [...command.replace(/\s#.*$/, '').matchAll(/(?:[^\s'"]|'[^']*'|"[^"]*")+/g)].map(([word]) =>
    word.replaceAll(/'([^']*)'|"([^"]*)"/g, (_, single?: string, double?: string) => single ?? double ?? ''),
  )

/** Helm options that affect rendering. The others affect how a release is applied, and `helm template` does not have them. */
const rendering = /^(--set|--set-string|--set-json|--set-file|--values|--namespace|-f|-n)$/

/** `helm upgrade --install NAME CHART …` as `helm template NAME CHART …` with the chart in this repository; undefined for other commands. */
export function templateOf(words: readonly string[], chartFolder: (name: string) => string): string[] | undefined {
  if (words[0] !== 'helm' || (words[1] !== 'install' && words[1] !== 'upgrade')) return undefined
  const kept: string[] = []
  for (let index = 2; index < words.length; index++) {
    const word = words[index] ?? ''
    const published = publishedChart.exec(word)
    if (published !== null) kept.push(chartFolder(published[1] ?? ''))
    else if (word === '--version' || word === '--timeout') index++
    else if (rendering.test(word)) kept.push(word, words[++index] ?? '')
    else if (!word.startsWith('-')) kept.push(word)
  }
  return ['template', ...kept]
}

/** The options of a helm command, without their values. */
export function helmOptions(words: readonly string[]): { command: string; options: string[] } {
  const ends = words.indexOf('--')
  const own = ends === -1 ? words : words.slice(0, ends)
  return {
    command: own[1] ?? '',
    options: own.filter((word) => word.startsWith('--')).map((word) => word.split('=')[0] ?? ''),
  }
}

const RESOURCE = /(?<![\w./-])(deployment|statefulset|svc|service)\/([\w-]+)/g
const kinds: Readonly<Record<string, string>> = {
  deployment: 'Deployment',
  statefulset: 'StatefulSet',
  svc: 'Service',
  service: 'Service',
}

/**
 * What `kubectl port-forward` would refuse: the object is not rendered, or it does not have the port. Names with variables are not judged.
 * @param words of the command
 */
export function forwardFaults(words: readonly string[], manifests: readonly Manifest[]): string[] {
  const at = words.indexOf('port-forward')
  if (words[0] !== 'kubectl' || at === -1) return []
  const [target = '', ...ports] = words.slice(at + 1).filter((word) => !word.startsWith('-') && word !== '&')
  const [type = '', name = ''] = target.split('/')
  if (target.includes('$')) return []
  const found = manifests.find(({ kind, metadata }) => kind === kinds[type] && metadata.name === name)
  if (found === undefined) return [`forwards to ${target}, which its helm commands do not create`]
  const has: string[] =
    found.kind === 'Service'
      ? found.spec.ports.flatMap(({ name, port }: Manifest) => [name, String(port)])
      : found.spec.template.spec.containers.flatMap(({ ports = [] }: Manifest) =>
          ports.flatMap(({ name, containerPort }: Manifest) => [name, String(containerPort)]),
        )
  return ports
    .map((one) => one.split(':').at(-1) ?? '')
    .filter((port) => !has.includes(port))
    .map((port) => `forwards to port ${port} of ${target}, which has ${has.join(', ')}`)
}

const commands: Check = {
  name: 'documents: what commands name exists',
  counts: 'names',
  async run(say) {
    const helm = await tool('helm', say)
    return withCharts(say, (_, charts) => compared(helm, charts, say))
  },
}

async function compared(helm: string, charts: string, say: (progress: string) => void): Promise<Outcome> {
  const { scripts, version } = (await Bun.file(join(root, 'package.json')).json()) as {
    scripts: Record<string, string>
    version: string
  }
  let passed = 0
  const faults: string[] = []
  const help = new Map<string, string>()
  /** The release's values from the last --set. */
  let reused: string[] = []
  for (const document of documents) {
    const text = await Bun.file(join(root, document)).text()
    const demand = (right: boolean, fault: string): void => {
      if (right) passed++
      else faults.push(`${document}: ${fault}`)
    }
    for (const [, path = ''] of text.matchAll(OWN_PATH))
      for (const one of alternatives(path)) demand(existsSync(join(root, one)), `names ${one}, which is not there`)
    for (const [, script = ''] of text.matchAll(/\bbun(?:@[\d.]+)? run ([\w:-]+)/g))
      demand(scripts[script] !== undefined, `names "bun run ${script}", which package.json does not have`)
    for (const [, , named = ''] of text.matchAll(/ghcr\.io\/kafkatrace\/([\w/]+):(\d+\.\d+\.\d+)/g))
      demand(named === version, `names version ${named}, where package.json says ${version}`)

    const rendered: string[] = []
    for (const command of commandsIn(text)) {
      const words = wordsOf(command)
      if (words[0] !== 'helm') continue
      const { command: subcommand, options } = helmOptions(words)
      const page = help.get(subcommand) ?? (await run([helm, subcommand, '--help'])).output
      help.set(subcommand, page)
      for (const option of options)
        demand(new RegExp(`(?:^|\\s)${option}\\b`).test(page), `helm ${subcommand} has no ${option}: ${command}`)
      const versionAt = words.indexOf('--version')
      if (versionAt !== -1) demand(words[versionAt + 1] === version, `installs ${words[versionAt + 1]}: ${command}`)
      const template = templateOf(words, (name) => join(charts, name))
      if (template === undefined) continue
      say(command)
      if (words.includes('--reset-then-reuse-values')) template.splice(1, 0, ...reused)
      else
        reused = template.filter((word, index) => word.startsWith('--set') || template[index - 1]?.startsWith('--set'))
      const { exitCode, output, errors } = await run([helm, ...template])
      demand(exitCode === 0, `does not render: ${command}\n${errors.trimEnd()}`)
      rendered.push(output)
    }
    const manifests = rendered.flatMap(manifestsOf)
    const there = new Set(manifests.map(({ kind, metadata }) => `${kind} ${metadata.name}`))
    for (const command of commandsIn(text))
      if (command.includes('port-forward')) {
        const wrong = forwardFaults(wordsOf(command), manifests)
        demand(wrong.length === 0, `${wrong.join('; ')}: ${command}`)
      }
    if (text.includes('helm test '))
      demand(
        rendered.every((output) => /helm\.sh\/hook"?: "?test/.test(output)),
        'names helm test, and what it installs has no test',
      )
    for (const [, kind = '', name = ''] of text.matchAll(RESOURCE))
      demand(there.has(`${kinds[kind]} ${name}`), `names ${kind}/${name}, which its helm commands do not create`)
  }
  return { passed, faults }
}

export const docsChecks: readonly Check[] = [commands]
