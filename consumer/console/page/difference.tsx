import { diffLines } from 'diff'
import { useMemo } from 'preact/hooks'
import { folded } from './folded.ts'
import { counted } from './words.ts'

/** A difference that takes longer is not shown. */
const DIFF_TIMEOUT_MS = 100

/** What was changed between two texts, by lines. */
export function Difference({ title, before, after }: { title: string; before: string; after: string }) {
  const parts = useMemo(() => {
    const all = diffLines(`${before}\n`, `${after}\n`, { timeout: DIFF_TIMEOUT_MS })
    return all && folded(all)
  }, [before, after])
  return (
    <figure class="data">
      <figcaption>{title}</figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, and has to with the keyboard, too */}
      <pre tabIndex={0} class="difference" dir="ltr">
        {parts === undefined && 'Too much is changed to be shown.'}
        {parts?.map((part, index) =>
          'same' in part ? (
            <span key={index} class="hint">{`… ${counted(part.same, 'line')} that are the same\n`}</span>
          ) : part.added ? (
            <ins key={index}>{part.value}</ins>
          ) : part.removed ? (
            <del key={index}>{part.value}</del>
          ) : (
            <span key={index}>{part.value}</span>
          ),
        )}
      </pre>
    </figure>
  )
}
