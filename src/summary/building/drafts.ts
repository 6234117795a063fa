/** What is to be said of a service on a channel, beside what was said last (docs/design/summaries.md, Building). */
import { isName } from "../../catalog/entry/names.ts";
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { MAX_REGIONS, type SaidUnder, type Summary, type SummaryFacts, type SummaryKey } from "../summary.ts";
import { bandOf, differenceOf, shownLatencyMs } from "./band.ts";
import type { Tally } from "./counting.ts";
import type { Outlet, Permission } from "./outlets.ts";

/** Most characters of all regions that a summary names. So there is room for the longest names beside them. */
const MAX_REGION_CHARS = 1536;

/**
 * Why something is sent: seen for the first time; another band or existence; count or latency; no entries left; the policy or the settings do not let it out;
 * the cluster signs with another key now; others know it in a version that is as high or higher.
 */
export type DraftCause = "first" | "changed" | "measured" | "vanished" | "denied" | "rekeyed" | "exceeded";

/** A summary to be numbered, signed and held. */
export interface Draft {
  readonly facts: SummaryFacts;
  readonly cause: DraftCause;
}

/** What is held of a key. */
export type Sent = SummaryFacts & Pick<Summary, "exporter" | "generatedWallMs" | "keyId">;

/** Under what something is exported. */
export interface Under {
  readonly policy: Policy;
  readonly permission: Permission;
}

/** What was counted of a service on a channel. */
export interface Counted {
  readonly key: SummaryKey;
  readonly tally: Tally;
  readonly outlet: Outlet;
  /** What is held, which may be a withdrawal. */
  readonly sent: Sent | undefined;
}

/** The summary of what was counted, or its withdrawal; undefined when nothing is new. */
export function draftOf({ key, tally, outlet, sent }: Counted, under: Under): Draft | undefined {
  const live = sent?.withdrawn === false ? sent : undefined;
  if (tally.count === 0) return live && withdrawalOf(key, live, "vanished", under);
  const maxMs = shownLatencyMs(tally.highMs, live?.latency.maxMs ?? 0);
  const minMs = Math.min(shownLatencyMs(tally.lowMs, live?.latency.minMs ?? 0), maxMs);
  const facts: SummaryFacts = {
    ...key,
    ...said(under),
    regions: namedRegions(tally.regions),
    endpointCount: tally.count,
    band: bandOf(tally, live?.band),
    latency: { minMs, maxMs },
    notAfterWallMs: outlet.notAfterWallMs,
    withdrawn: false,
  };
  if (live === undefined) return { facts, cause: sent === undefined ? "first" : "changed" };
  const difference = differenceOf(live, facts);
  if (difference === "none") return undefined;
  return { facts, cause: difference === "substance" ? "changed" : "measured" };
}

/** The end of what is held. */
export function withdrawalOf(key: SummaryKey, { band }: Sent, cause: "vanished" | "denied", under: Under): Draft {
  const nothing = { regions: [], endpointCount: 0, latency: { minMs: 0, maxMs: 0 }, notAfterWallMs: undefined };
  return { facts: { ...key, ...said(under), ...nothing, band, withdrawn: true }, cause };
}

/** Those that a summary has room for. Here, and not where it is encoded, because else each look would find another set than was told. */
function namedRegions(regions: readonly string[]): readonly string[] {
  let leftChars = MAX_REGION_CHARS;
  const named = regions.filter((region) => isName(region, NODE_BOUNDS.maxIdLength)).slice(0, MAX_REGIONS);
  return named.filter(({ length }) => (leftChars -= length) >= 0);
}

/** As summaries and the audit tell it. */
export function said({ policy, permission }: Under): SaidUnder {
  const { rule, noStale } = permission;
  return { policyVersion: policy.set?.version ?? "", policyNumber: policy.number, policyRule: rule, noStale };
}
