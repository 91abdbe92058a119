import { ConfigError } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { messageOf } from '../service/thrown.ts'
import { FILES_POLL_MS, watchFiles } from '../service/watched-files.ts'
import type { Authorise, Authorised } from './authorise.ts'
import type { Problem } from './problem.ts'
import { type Credential, reloadTenants, type Tenant, type Tenants } from './tenants.ts'

/** Who may use a service, by a tenants file that is read again whenever it changes. */

export interface Access {
  authorise: Authorise
  /** Of now. */
  tenants(): readonly Tenant[]
  /** By the key's id. */
  credentials(): ReadonlyMap<string, Credential>
  /** Called after each reload that has changed something. What it throws ends the process. */
  onChange(listener: (now: readonly Tenant[]) => void): void
  /**
   * Calls `ended` once the request would be refused, which is looked at as often as the file is, and after each reload.
   * @returns what ends the looks
   */
  whileAllowed(request: Pick<Allowed, 'again'>, ended: (problem: Problem) => void): () => void
  /** For `/readyz`. */
  state(): { ok: true; detail?: string }
  /** @param prepare what else a file has to fulfil before it is used: the faults of their ConfigErrors are the file's, too */
  start(...prepare: readonly Prepare[]): Promise<void>
  stop(): void
}

export type Allowed = Extract<Authorised, { ok: true }>

/** Calls `ended` once a request would be refused. @returns what ends the looks */
export type WhileAllowed = (ended: (problem: Problem) => void) => () => void

export type Prepare = (tenants: readonly Tenant[]) => void | Promise<void>

/** How often a file that is not used is tried again: what is wrong may be somewhere else, as in schemas, or have passed. */
const AGAIN_MS = 10_000

/** The most faults, or keys, that are named: in one line of the log, and in `/readyz`. */
const LOGGED = 50
const NAMED = 5

const named = (texts: readonly string[], most: number): string =>
  texts.length <= most ? texts.join('; ') : `${texts.slice(0, most).join('; ')}; and ${texts.length - most} more`

export interface LiveDeps {
  /** undefined: there is none, and nothing ever changes. */
  file: string | undefined
  /** What it said at the start. */
  tenants: Tenants
  authorise(tenants: Tenants): Authorise
  /** What is wrong with a file besides its own faults. */
  faultsOf?(tenants: readonly Tenant[]): string[]
  log: Pick<Logger, 'info' | 'warn'>
  pollMs?: number
}

/** By tenants that change with their file. A file with any fault is not used: what was read before stays. */
export class LiveAccess implements Access {
  readonly authorise: Authorise
  readonly #deps: LiveDeps
  #now: Tenants
  #faults: readonly string[] = []
  /** What the file says where that has no fault by itself, and is not used. */
  #refused: Tenants | undefined
  #prepare: readonly Prepare[] = []
  readonly #listeners: ((now: readonly Tenant[]) => void)[] = []
  /** Requests that last. */
  readonly #lasting = new Set<{ request: Pick<Allowed, 'again'>; ended(problem: Problem): void }>()
  readonly #ending = new AbortController()
  readonly #timers: NodeJS.Timeout[] = []

  constructor(deps: LiveDeps) {
    this.#deps = deps
    this.#now = deps.tenants
    this.authorise = deps.authorise(this.#live())
  }

  /** Answers by what was read last. */
  #live(): Tenants {
    const now = (): Tenants => this.#now
    return {
      get list() {
        return now().list
      },
      get credentials() {
        return now().credentials
      },
      find: (key) => now().find(key),
      again: (found) => now().again(found),
      certified: (names) => now().certified(names),
    }
  }

  tenants(): readonly Tenant[] {
    return this.#now.list
  }

  credentials(): ReadonlyMap<string, Credential> {
    return this.#now.credentials
  }

  onChange(listener: (now: readonly Tenant[]) => void): void {
    this.#listeners.push(listener)
  }

  whileAllowed(request: Pick<Allowed, 'again'>, ended: (problem: Problem) => void): () => void {
    const one = { request, ended }
    this.#lasting.add(one)
    return () => void this.#lasting.delete(one)
  }

  state(): { ok: true; detail?: string } {
    if (this.#faults.length === 0) return { ok: true }
    return {
      ok: true,
      detail: `the tenants file is not used, what it said before is: ${named(this.#faults, NAMED)}`,
    }
  }

  async start(...prepare: readonly Prepare[]): Promise<void> {
    const { file, pollMs = FILES_POLL_MS } = this.#deps
    this.#prepare = prepare
    this.#timers.push(setInterval(() => this.#look(), pollMs))
    if (file === undefined) return
    // One at a time, whatever asks for it.
    let last = Promise.resolve()
    const reload = (): Promise<void> => {
      last = last.then(() => this.#reload(file))
      return last
    }
    const again = (): void => {
      if (this.#faults.length > 0) void reload()
    }
    this.#timers.push(setInterval(again, AGAIN_MS))
    await watchFiles([file], reload, this.#ending.signal, pollMs)
  }

  stop(): void {
    this.#ending.abort()
    for (const timer of this.#timers) clearInterval(timer)
  }

  async #reload(file: string): Promise<void> {
    const before = this.#now
    let next: Tenants
    let faults: readonly string[]
    try {
      next = await reloadTenants(file, this.#refused === undefined ? [before] : [before, this.#refused])
      faults = next === before ? [] : await this.#faultsOf(file, next)
      this.#refused = faults.length === 0 ? undefined : next
    } catch (error) {
      this.#refused = undefined
      this.#tell(faultsIn(error))
      return
    }
    this.#tell(faults)
    if (faults.length > 0 || next === before || this.#ending.signal.aborted) return
    this.#now = next
    this.#deps.log.info(changes(before, next), 'tenants were read again')
    for (const listener of this.#listeners) listener(next.list)
    this.#look()
  }

  /** What is wrong with a file that has no fault of its own. */
  async #faultsOf(file: string, { list }: Tenants): Promise<string[]> {
    const faults = [...(this.#deps.faultsOf?.(list) ?? [])]
    // Most likely half of a file, or the wrong one. To refuse all keys of a tenant, `enabled` is there.
    if (list.length === 0 && this.#now.list.length > 0) faults.push(`TENANTS_FILE=${file}: it has no tenants any more`)
    for (const prepare of this.#prepare)
      try {
        await prepare(list)
      } catch (error) {
        faults.push(...faultsIn(error))
      }
    return faults
  }

  /** Says once what is wrong with the file, or that it is right again. */
  #tell(faults: readonly string[]): void {
    const isSame = faults.join('\n') === this.#faults.join('\n')
    this.#faults = faults
    if (isSame) return
    if (faults.length === 0) this.#deps.log.info('the tenants file is used again')
    else
      this.#deps.log.warn(
        { faults: named(faults, LOGGED) },
        'the tenants file has changed and is not used: what it said before is',
      )
  }

  #look(): void {
    for (const one of this.#lasting) {
      const decided = one.request.again()
      if (decided.ok) continue
      this.#lasting.delete(one)
      one.ended(decided.problem)
    }
  }
}

const faultsIn = (error: unknown): readonly string[] =>
  error instanceof ConfigError ? error.faults : [`TENANTS_FILE cannot be used: ${messageOf(error)}`]

/** For the log: what came and went. */
function changes(before: Tenants, next: Tenants) {
  const [streamsBefore, streamsNext] = [streamNames(before), streamNames(next)]
  const replaced = [...next.credentials.keys()].filter((id) => {
    const known = before.credentials.get(id)
    return known !== undefined && next.again(known) === undefined
  })
  return {
    tenants: next.list.length,
    ...some('newStreams', [...streamsNext.difference(streamsBefore)]),
    ...some('removedStreams', [...streamsBefore.difference(streamsNext)]),
    ...some(
      'newKeys',
      [...next.credentials.keys()].filter((id) => !before.credentials.has(id)),
    ),
    ...some(
      'removedKeys',
      [...before.credentials.keys()].filter((id) => !next.credentials.has(id)),
    ),
    ...some('replacedKeys', replaced),
  }
}

const some = <N extends string>(name: N, texts: readonly string[]) =>
  texts.length === 0 ? {} : { [name]: named(texts, LOGGED) }

const streamNames = ({ list }: Tenants): Set<string> =>
  new Set(list.flatMap(({ name, streams }) => [...streams].map((stream) => `${name}/${stream}`)))
