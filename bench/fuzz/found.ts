import { type Part, saveInput } from './corpus.ts'

/** What a run has found, and how far it is. */

export interface FuzzOptions {
  readonly seed: number
  readonly inputs: number
  say(text: string): void
  /** Where failing inputs are saved; default: the corpus in Git. */
  readonly corpus?: string
}

export interface Found {
  /** What was wrong, and with which input. */
  readonly what: string
  /** The smallest input that fails in this way, where one alone does. */
  readonly file?: string
}

export interface Result {
  readonly inputs: number
  readonly found: readonly Found[]
}

/** After so many, a run ends. */
export const MAX_FOUND = 10
const PROGRESS_MS = 5_000

/** Says every few seconds how far a run is. @returns stops it */
export function sayProgress(of: () => string, say: (text: string) => void): () => void {
  const timer = setInterval(() => say(of()), PROGRESS_MS)
  return () => clearInterval(timer)
}

/** How long the search for a smaller input may take. */
const SHRINK_MS = 90_000

/** @returns whether the search may go on */
export function shrinkTime(): () => boolean {
  const endMs = performance.now() + SHRINK_MS
  return () => performance.now() < endMs
}

/** Saves an input with what was wrong. */
export const keep = <Input>(part: Part, why: string, input: Input, { corpus }: FuzzOptions): string =>
  saveInput(part, { why, input }, corpus)
