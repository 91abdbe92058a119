/** Checks of workflows that actionlint and zizmor cannot do: whether they fit this repository. */

/** A workflow, or an action of ours, with the parts of the repository that it refers to. */
export interface Repository {
  readonly scripts: ReadonlySet<string>
  /** @param path from the root; true if it exists */
  has(path: string): boolean
}

interface Step {
  readonly uses?: string
  readonly run?: string
  readonly with?: Readonly<Record<string, unknown>>
}

interface Job {
  readonly 'timeout-minutes'?: number
  readonly permissions?: unknown
  readonly steps?: readonly Step[]
}

interface Workflow {
  readonly permissions?: unknown
  readonly concurrency?: unknown
  readonly jobs?: Readonly<Record<string, Job>>
  readonly runs?: { readonly steps?: readonly Step[] }
}

/** A pinned action: a full commit hash, with its version in a comment. */
const PINNED = /^\s*(?:- )?uses: ([\w.-]+\/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$/

/** Folders with files that commands name. */
export const OWN_PATH =
  /(?<![\w./-])((?:\.docker|\.github|bench|consumer|docs|helm|producer|shared)\/[\w./{},-]*[\w}])(?![\w\\])/g

/** A script of package.json. */
const BUN_RUN = /\bbun run ([\w:-]+)/g

/** All faults of one file, and how many things were checked. */
export function workflowFaults(
  file: string,
  text: string,
  repository: Repository,
): { looked: number; faults: string[] } {
  const faults: string[] = []
  let looked = 0
  const demand = (right: boolean, fault: string): void => {
    looked++
    if (!right) faults.push(`${file}: ${fault}`)
  }
  const workflow = Bun.YAML.parse(text) as Workflow

  if (workflow.jobs !== undefined) {
    demand(
      JSON.stringify(workflow.permissions) === '{}',
      'permissions at the top are not {}: each job has to name its own',
    )
    demand(workflow.concurrency !== undefined, 'has no concurrency')
  }
  for (const [name, job] of Object.entries(workflow.jobs ?? {})) {
    demand(typeof job['timeout-minutes'] === 'number', `job ${name} has no timeout-minutes`)
    demand(job.permissions !== undefined, `job ${name} names no permissions`)
    const own = job.steps ?? []
    if (own.some(({ run }) => run?.includes('gh release upload')))
      demand(
        own.some(({ uses }) => uses?.startsWith('actions/attest@')),
        `job ${name} publishes files that it does not attest`,
      )
  }

  const steps = [
    ...Object.values(workflow.jobs ?? {}).flatMap((job) => job.steps ?? []),
    ...(workflow.runs?.steps ?? []),
  ]
  for (const { uses, run, with: options } of steps) {
    if (uses?.startsWith('./'))
      demand(repository.has(`${uses.slice(2)}/action.yml`), `uses ${uses}, which is not there`)
    if (uses?.startsWith('actions/checkout@'))
      demand(
        options?.['persist-credentials'] === false,
        'a checkout leaves its token behind: persist-credentials: false',
      )
    for (const path of [options?.['file'], options?.['bun-version-file']])
      if (typeof path === 'string') demand(repository.has(path), `names ${path}, which is not there`)
    if (run === undefined) continue
    for (const [, script = ''] of run.matchAll(BUN_RUN))
      demand(repository.scripts.has(script), `runs "bun run ${script}", which package.json does not have`)
    for (const [, path = ''] of run.matchAll(OWN_PATH))
      for (const one of alternatives(path)) demand(repository.has(one), `names ${one}, which is not there`)
  }

  for (const [index, line] of text.split('\n').entries()) {
    if (!/^\s*(?:- )?uses: (?!\.\/)/.test(line)) continue
    demand(PINNED.test(line), `line ${index + 1}: not pinned as owner/action@40-hex # vX.Y.Z: ${line.trim()}`)
  }
  return { looked, faults }
}

/** `a/{b,c}/d` → `a/b/d`, `a/c/d`, as the shell expands it. */
export function alternatives(path: string): string[] {
  const group = /^(.*?)\{([^{}]*)\}(.*)$/.exec(path)
  if (group === null) return [path]
  const [, before = '', middle = '', after = ''] = group
  return middle.split(',').flatMap((one) => alternatives(before + one + after))
}

/** One version of each action: finds files that an update missed. */
export function pinFaults(files: Readonly<Record<string, string>>): string[] {
  const seen = new Map<string, { pin: string; file: string }>()
  const faults: string[] = []
  for (const [file, text] of Object.entries(files)) {
    for (const line of text.split('\n')) {
      const [, action = '', hash = '', version = ''] = PINNED.exec(line) ?? []
      if (action === '') continue
      // init and analyze are one repository's actions and have one version.
      const repository = action.split('/').slice(0, 2).join('/')
      const pin = `${hash} # ${version}`
      const first = seen.get(repository)
      if (first === undefined) seen.set(repository, { pin, file })
      else if (first.pin !== pin) faults.push(`${repository} is ${first.pin} in ${first.file}, ${pin} in ${file}`)
    }
  }
  return faults
}

/** Versions of Bun in a text, after `bun@` or as an image's tag. */
export function bunVersions(text: string): string[] {
  return [...text.matchAll(/\bbun(?:@|:|\/bun:|_VERSION=|_version=)v?(\d+\.\d+\.\d+)/gi)].map(
    ([, version = '']) => version,
  )
}
