/** The part of a query's filter that needs the entry itself: the subjects that a TOPIC carries. */
import { topicPatterns } from "../catalog/entry/codec.ts";
import { matchesSubject, parseSubject, patternWords, SUBJECT_RULE } from "../catalog/entry/topic-patterns.ts";
import type { Filter } from "../catalog/query/filter.ts";
import type { EntryTest } from "../catalog/query/query.ts";
import { KIND } from "../catalog/record/record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { invalid } from "../lib/errors.ts";

/** Number of compared words that cost as much as another record. */
const STEPS_A_RECORD = 256;

/**
 * The test whether a pattern of the topic matches the subject. Throws `invalid_argument` for text that
 * is not a subject, and if no topic is asked for.
 */
export function subjectTest(subject: string, { kindMask, versions }: Filter, replica: Replica): EntryTest {
  if (versions !== undefined) throw invalid("subject", "goes with topics and version_range with functions; give one of them");
  if (kindMask !== 0 && (kindMask & (1 << KIND.TOPIC)) === 0)
    throw invalid("subject", "only topics carry subjects, and kinds names others");
  const words = parseSubject(subject);
  if (words === undefined) throw invalid("subject", `${JSON.stringify(subject)} ${SUBJECT_RULE}`);
  return (record) => patternsFault(topicPatterns(replica.slab.view(record.at, record.sizeBytes)), words);
}

function patternsFault(patterns: readonly string[], subject: readonly string[]): ReturnType<EntryTest> {
  const tally = { steps: 0 };
  const carries = patterns.some((text) => {
    const words = patternWords(text);
    tally.steps += words.length;
    return matchesSubject(words, subject, tally);
  });
  const cost = tally.steps / STEPS_A_RECORD;
  if (carries) return { cost };
  return { cost, fault: { reason: "subject", detail: `none of its ${patterns.length} patterns stands for ${subject.join(".")}` } };
}
