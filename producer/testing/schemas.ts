import { Catalog, type VersionFault } from '../../shared/schemas/catalog.ts'
import type { Found, SchemaStore, StoreState } from '../../shared/schemas/store.ts'

/** Schemas in memory, for tests: what a folder or a registry would have. */
export class MemoryStore implements SchemaStore {
  readonly #catalog = new Catalog()
  mayLag = false
  isAway = false

  /** @param versions by subject, the first is version 1 @param unusable more versions, which cannot be used */
  async use(
    versions: Readonly<Record<string, readonly unknown[]>>,
    unusable: readonly VersionFault[] = [],
  ): Promise<this> {
    const texts = Object.entries(versions).flatMap(([subject, documents]) =>
      documents.map((document, index) => ({
        subject,
        version: index + 1,
        bytes: Buffer.from(JSON.stringify(document)),
        place: `${subject} ${index + 1}`,
      })),
    )
    const faults = await this.#catalog.replace(texts, () => true, unusable)
    if (faults.length > unusable.length) throw new Error(faults.map(({ detail }) => detail).join('; '))
    return this
  }

  find(subject: string): Found {
    return this.#catalog.subjects.get(subject) ?? (this.isAway ? 'unknown' : undefined)
  }

  subjects(): Iterable<string> {
    return this.#catalog.subjects.keys()
  }

  state(): StoreState {
    return { ok: true }
  }

  versions(): number {
    return this.#catalog.versions
  }

  async start(): Promise<void> {}

  stop(): void {}
}
