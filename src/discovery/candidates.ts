/**
 * Provides the instances from which Resolve chooses: a sample if a name has many instances, the requested versions, and the endpoints of hosted
 * instances.
 */

import { topicPatterns } from "../catalog/entry/codec.ts";
import { matchesSubject, parseSubject, patternWords, SUBJECT_RULE } from "../catalog/entry/topic-patterns.ts";
import { type EntryView, NO_PORTS, versionOf } from "../catalog/entry/view.ts";
import type { EntryFilter } from "../catalog/query/filter.ts";
import { GOLDEN_RATIO, type NameSampling } from "../catalog/query/instances.ts";
import type { EntryTest } from "../catalog/query/query.ts";
import { type CatalogRecord, type KeyText, KIND, type Kind, viewHealth } from "../catalog/record/record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { type Fitness, healthOrder, isHosted } from "../consumer/health-tiers.ts";
import { hostOf, hostTargets, isCalledAtNode } from "../consumer/hosting.ts";
import { FIT_RANK, idealRank, LEVELS, type RankOptions, rankOf, SELECT_POLICY } from "../consumer/locality-levels.ts";
import { invalid } from "../lib/errors.ts";
import { fnv64, hashFraction } from "../lib/hash64.ts";
import { lacksVersion, VersionRange } from "../lib/versions.ts";

/** The inputs that determine which instances are sampled if a name has many. */
export interface SampleOptions extends RankOptions {
  readonly hashKey: string;
  /** For ROUND_ROBIN: number of choices made so far. */
  readonly turn: number;
  readonly random: () => number;
  /** Number of wanted entries. */
  readonly limit: number;
}

/**
 * Returns the sample from which these options choose if a name has many instances. Each ROUND_ROBIN turn and each random number selects a different
 * part of the instances. A hash key always selects the same part.
 */
export function samplingOf(options: SampleOptions): NameSampling {
  const rank = (record: CatalogRecord) => rankOf(fitnessOf(record), record.traits, options);
  const ranks = { rank, ranksPerTier: LEVELS, ideal: idealRank(options), fit: FIT_RANK, wanted: options.limit };
  switch (options.policy) {
    case SELECT_POLICY.HASH:
      return { ...ranks, form: "stretch", at: hashFraction(fnv64(options.hashKey)) };
    case SELECT_POLICY.ROUND_ROBIN:
      return { ...ranks, form: "spread", at: (options.turn * GOLDEN_RATIO) % 1 };
    case SELECT_POLICY.LOAD_AWARE:
    case SELECT_POLICY.RANDOM:
      return { ...ranks, form: "spread", at: options.random() };
  }
}

/** Returns the inputs that determine a record's tier, without decoding the record. */
function fitnessOf(record: CatalogRecord): Fitness {
  return { health: viewHealth(record), hasTarget: record.traits.ports !== NO_PORTS || isHosted(record.kind) };
}

/** Ranks records only by health, for answers that include all tiers and have no preferred location. */
export function healthRank(record: CatalogRecord): number {
  return healthOrder(viewHealth(record));
}

/**
 * Returns a test of whether the version of a FUNCTION is in an npm-style range such as `^1.2.0`. Returns undefined for an empty range, which includes
 * all versions. No range includes a text that is not a version. Throws `invalid_argument` if the text is not a range or the kind is not FUNCTION.
 */
export function versionTest(kind: Kind, range: string): ((version: string) => boolean) | undefined {
  if (range === "") return undefined;
  if (kind !== KIND.FUNCTION) throw invalid("version_range", "must be empty for kinds other than FUNCTION");
  const wanted = new VersionRange(range);
  return (version) => wanted.has(version);
}

/** Returns the explanation for a candidate that was excluded because of its version. */
export function explainVersion({ key, view }: { readonly key: KeyText; readonly view: EntryView }, range: string) {
  return { key, kept: false, reason: "version_range", detail: lacksVersion(versionOf({ detail: view.read("detail") }), range) };
}

/**
 * Sets the targets of hosted entries to the advertised endpoints of their nodes. `find` returns the NODE entries with a given node ID. Cost: one call
 * of `find` per node.
 */
export function withHosts(entries: readonly EntryView[], find: (nodeId: string) => readonly EntryView[]): readonly EntryView[] {
  const byNode = new Map<string, readonly EntryView[]>();
  const nodesOf = (nodeId: string): readonly EntryView[] => {
    const known = byNode.get(nodeId) ?? find(nodeId);
    byNode.set(nodeId, known);
    return known;
  };
  return entries.map((entry) => {
    if (!isCalledAtNode(entry)) return entry;
    const node = hostOf(entry, nodesOf(entry.nodeId));
    const targets = node === undefined ? [] : hostTargets(node.read("detail"));
    // The answer depends on both entries, so it may be cached only for as long as both TTLs allow.
    return targets.length === 0 ? entry : { ...entry, targets, ttlMs: leastOf(entry.ttlMs, node?.ttlMs) };
  });
}

function leastOf(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
}

// The part of a query's filter for which the entry must be decoded: the subjects of a TOPIC.

/** Number of word comparisons that cost as much as reading one more record. */
const STEPS_A_RECORD = 256;

/**
 * Returns a test of whether any of a topic's patterns matches the subject. Throws `invalid_argument` if the text is not a subject or the filter
 * excludes topics.
 */
export function subjectTest(subject: string, { kindMask, versions }: EntryFilter, replica: Replica): EntryTest {
  if (versions !== undefined)
    throw invalid("subject", "cannot be combined with version_range: subject is for topics, version_range for functions");
  if (kindMask !== 0 && (kindMask & (1 << KIND.TOPIC)) === 0)
    throw invalid("subject", "only topics have subjects: add TOPIC to kinds, or leave kinds empty");
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
  return { cost, fault: { reason: "subject", detail: `none of its ${patterns.length} patterns matches ${subject.join(".")}` } };
}
