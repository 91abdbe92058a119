/** A part of the difference between two texts: whole lines, each with its end. */
export interface Part {
  value: string
  added: boolean
  removed: boolean
}

/** Lines that are shown before and after a change. */
const CONTEXT_LINES = 3

/** Leaves out lines that are the same, far from any change. Where they were is their number. */
export function folded(parts: readonly Part[]): (Part | { same: number })[] {
  return parts.flatMap((part, index) => {
    if (part.added || part.removed) return [part]
    const lines = part.value.split(/(?<=\n)/)
    const before = index === 0 ? 0 : CONTEXT_LINES
    const after = index === parts.length - 1 ? 0 : CONTEXT_LINES
    const same = lines.length - before - after
    // A line takes no more room than its number.
    if (same <= 1) return [part]
    const shown = (some: readonly string[]): Part[] =>
      some.length === 0 ? [] : [{ value: some.join(''), added: false, removed: false }]
    return [...shown(lines.slice(0, before)), { same }, ...shown(lines.slice(before + same))]
  })
}
