import { turn } from '../service/retry.ts'
import { type SchemaVersion, schemaHeader, schemaUrn } from './identity.ts'
import type { Schema } from './verdict.ts'

/** The schemas of all subjects, compiled, as the files or the registry had them last. */

/** A version's text. */
export interface SchemaText extends SchemaVersion {
  bytes: Buffer
  /** Where it is, for people: a file's path, or its URL. */
  place: string
}

/** A version, ready to check events. */
export interface Version extends SchemaVersion {
  schema: Schema
  /** For `kt-schema`. */
  header: string
  /** For `dataschema`. */
  urn: string
}

/** Why a version cannot be used. */
export interface VersionFault extends SchemaVersion {
  detail: string
}

export interface Subject {
  /** The highest that can be used. */
  latest: Version
  versions: ReadonlyMap<number, Version>
  /** A later version, which is there and cannot be used. */
  unusable?: number
}

export class Catalog {
  #subjects: ReadonlyMap<string, Subject> = new Map()
  /** By text, so that what has not changed is not compiled again: compiling takes the thread for milliseconds, and versions are compared by identity. */
  #compiled = new Map<string, Version>()

  get subjects(): ReadonlyMap<string, Subject> {
    return this.#subjects
  }

  /** How many versions there are. */
  get versions(): number {
    return this.#compiled.size
  }

  /**
   * Replaces everything at once.
   * @param mayReplace asked with what is wrong
   * @param unusable versions that have no text
   * @returns what is wrong with versions, these among them, which are left out
   */
  async replace(
    texts: readonly SchemaText[],
    mayReplace: (faults: readonly VersionFault[]) => boolean,
    unusable: readonly VersionFault[] = [],
  ): Promise<VersionFault[]> {
    const compiled = new Map<string, Version>()
    const subjects = new Map<string, Map<number, Version>>()
    const faults = [...unusable]
    for (const { subject, version, bytes, place } of texts) {
      const id = `${schemaHeader(subject, version)}\n${bytes.toString('latin1')}`
      let known = this.#compiled.get(id)
      if (known === undefined) {
        // Here, so that a service without schemas does not load what compiles them.
        const { readSchema } = await import('./schema.ts')
        const read = readSchema(bytes)
        if (!read.ok) {
          for (const fault of read.faults) faults.push({ subject, version, detail: `${place}: ${fault}` })
          continue
        }
        const { schema } = read
        known = { subject, version, schema, header: schemaHeader(subject, version), urn: schemaUrn(subject, version) }
        await turn()
      }
      compiled.set(id, known)
      subjects.getOrInsertComputed(subject, () => new Map()).set(version, known)
    }
    if (!mayReplace(faults)) return faults
    this.#compiled = compiled
    const faultsBySubject = Map.groupBy(faults, ({ subject }) => subject)
    this.#subjects = new Map(
      [...subjects].map(([subject, of]) => [subject, subjectOf(of, faultsBySubject.get(subject) ?? [])]),
    )
    return faults
  }
}

function subjectOf(versions: ReadonlyMap<number, Version>, faults: readonly VersionFault[]): Subject {
  const latest = versions.get(Math.max(...versions.keys()))
  if (latest === undefined) throw new Error('a subject has a version')
  const unusable = Math.max(0, ...faults.map(({ version }) => version))
  return { latest, versions, ...(unusable > latest.version ? { unusable } : {}) }
}
