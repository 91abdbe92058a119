import { diffLines } from 'diff'
import { useMemo } from 'preact/hooks'

/** A difference that takes longer is not shown. */
const DIFF_TIMEOUT_MS = 100

/** What was changed between two texts, by lines. */
export function Difference({ title, before, after }: { title: string; before: string; after: string }) {
  const parts = useMemo(() => diffLines(`${before}\n`, `${after}\n`, { timeout: DIFF_TIMEOUT_MS }), [before, after])
  return (
    <figure class="data">
      <figcaption>{title}</figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, and has to with the keyboard, too */}
      <pre tabIndex={0} class="difference" dir="ltr">
        {(parts ?? [{ value: 'Too much is changed to be shown.', added: false, removed: false }]).map(
          ({ value, added, removed }, index) =>
            added ? (
              <ins key={index}>{value}</ins>
            ) : removed ? (
              <del key={index}>{value}</del>
            ) : (
              <span key={index}>{value}</span>
            ),
        )}
      </pre>
    </figure>
  )
}
