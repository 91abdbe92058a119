/** Values by key. Of those that were not asked for lately, so many are forgotten that at most twice the given number is kept. */
export class Recent<V> {
  #young = new Map<string, V>()
  #old = new Map<string, V>()

  constructor(private readonly most: number) {}

  get(key: string): V | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young
    const old = this.#old.get(key)
    if (old !== undefined) this.set(key, old)
    return old
  }

  set(key: string, value: V): void {
    if (this.#young.size >= this.most) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(key, value)
  }

  clear(): void {
    this.#young.clear()
    this.#old.clear()
  }
}
