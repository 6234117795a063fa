/** The filter of a query that only the entry itself can answer: the subjects that a TOPIC carries. */
import { topicPatterns } from "../catalog/entry/codec.ts";
import { matchesSubject, parseSubject, patternWords, SUBJECT_RULE } from "../catalog/entry/topic-patterns.ts";
import type { Filter } from "../catalog/query/filter.ts";
import type { EntryTest } from "../catalog/query/query.ts";
import { KIND } from "../catalog/record/record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { invalid } from "../lib/errors.ts";

/** Words looked at that take as long as another record. */
const STEPS_A_RECORD = 256;

/** Subject that a pattern of the topic must stand for; undefined when empty. Throws `invalid_argument` where it is none, or no topic is asked for. */
export function subjectTest(subject: string, { kindMask, versions }: Filter, replica: Replica): EntryTest | undefined {
  if (subject === "") return undefined;
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
