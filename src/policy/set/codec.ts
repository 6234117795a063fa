/** Converts policy sets and stages from protobuf messages to plain values and back. */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Scope as WireScope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  CutoverWindowSchema,
  type NamespacePolicy,
  NamespacePolicySchema,
  PolicySetSchema,
  QuotaSchema,
  StageSchema,
  type Quota as WireQuota,
  type PolicySet as WireSet,
  type Stage as WireStage,
  type CutoverWindow as WireWindow,
} from "../../../gen/waymark/policy/v1/policy_pb.js";
import { isName, nameRule } from "../../catalog/entry/names.ts";
import { SCOPE_NAMES, type Scope } from "../../catalog/entry/scope.ts";
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import { enumName } from "../../lib/enum-words.ts";
import { invalid } from "../../lib/errors.ts";
import { timeMs } from "../../lib/protowire.ts";
import type { RolloutStage } from "../versions/version.ts";
import type { CutoverWindow, NamespaceQuota, NamespaceRule, PolicySet } from "./rules.ts";
import { type PolicyProblem, PolicyProblems } from "./validation.ts";

/**
 * Decodes a set. The number is ignored, because the server assigns it. Only problems that cannot be expressed in the decoded values are
 * added to `problems`; `validate` finds all others. When `problems` is full, decoding stops, and the set lacks the remaining rules.
 */
export function decodePolicySet(wire: WireSet, problems = new PolicyProblems<PolicyProblem>()): PolicySet {
  const rules: NamespaceRule[] = [];
  for (const [index, rule] of wire.rules.entries()) {
    if (problems.isFull) break;
    rules.push(decodeRule(rule, `rules[${index}]`, problems));
  }
  return { version: wire.version, defaultAllow: wire.defaultAllow, rules };
}

/** Memory that a string in a list needs in addition to its characters, in bytes. */
const ITEM_BYTES = 32;
/** Memory that a decoded rule or window needs, in bytes. */
const OBJECT_BYTES = 256;

/** Returns the approximate size of a set in memory, in bytes. Cost: O(items in its lists). */
export function memorySizeOf({ rules }: WireSet): number {
  let sizeBytes = 0;
  const addTexts = (texts: readonly string[]): void => {
    for (const text of texts) sizeBytes += ITEM_BYTES + text.length;
  };
  for (const { namespace, owners, visibility, visibilityTenants, exportScopes, cutoverWindows } of rules) {
    sizeBytes += OBJECT_BYTES + namespace.length + exportScopes.length * ITEM_BYTES + cutoverWindows.length * OBJECT_BYTES;
    addTexts(owners);
    addTexts(visibility);
    addTexts(visibilityTenants);
  }
  return sizeBytes;
}

function decodeRule(wire: NamespacePolicy, path: string, problems: PolicyProblems<PolicyProblem>): NamespaceRule {
  return {
    pattern: wire.namespace,
    owners: wire.owners,
    visibility: wire.visibility,
    visibilityTenants: wire.visibilityTenants,
    exportScopes: wire.exportScopes as readonly number[] as readonly Scope[], // `validate` reports unknown scopes with their paths.
    allowSummaries: wire.allowSummaries,
    cutoverWindows: wire.cutoverWindows.map((window, index) => decodeWindow(window, `${path}.cutover_windows[${index}]`, problems)),
    policyVersion: wire.policyVersion,
    priority: wire.priority,
    quota: decodeQuota(wire.quota, `${path}.quota`, problems),
  };
}

function decodeWindow(wire: WireWindow, path: string, problems: PolicyProblems<PolicyProblem>): CutoverWindow {
  if (wire.startsAt === undefined) problems.add({ path: `${path}.starts_at`, severity: "error", message: "is required" });
  // A time out of range remains out of range, and `validate` reports it.
  return {
    startsWallMs: wire.startsAt === undefined ? 0 : timeMs(wire.startsAt),
    endsWallMs: wire.endsAt === undefined ? undefined : timeMs(wire.endsAt),
    exportScopes: wire.exportScopes as readonly number[] as readonly Scope[], // As above.
    allowSummaries: wire.allowSummaries,
  };
}

function decodeQuota(wire: WireQuota | undefined, path: string, problems: PolicyProblems<PolicyProblem>): NamespaceQuota {
  const count = (value: bigint | undefined, name: string): number => {
    if (value === undefined || value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value ?? 0n);
    problems.add({ path: `${path}.${name}`, severity: "error", message: `must be at most ${Number.MAX_SAFE_INTEGER}, got ${value}` });
    return 0;
  };
  return { entries: count(wire?.entries, "entries"), watches: count(wire?.watches, "watches"), bytes: count(wire?.bytes, "bytes") };
}

export function encodePolicySet(set: PolicySet, number: number): WireSet {
  const rules = set.rules.map(encodeRule);
  return create(PolicySetSchema, { version: set.version, defaultAllow: set.defaultAllow, rules, number: BigInt(number) });
}

function encodeRule(rule: NamespaceRule): NamespacePolicy {
  const { entries, watches, bytes } = rule.quota;
  const isBounded = entries > 0 || watches > 0 || bytes > 0;
  return create(NamespacePolicySchema, {
    namespace: rule.pattern,
    owners: [...rule.owners],
    visibility: [...rule.visibility],
    visibilityTenants: [...rule.visibilityTenants],
    exportScopes: rule.exportScopes.map(encodeScope),
    allowSummaries: rule.allowSummaries,
    cutoverWindows: rule.cutoverWindows.map(encodeWindow),
    policyVersion: rule.policyVersion,
    priority: rule.priority,
    ...(isBounded && { quota: create(QuotaSchema, { entries: BigInt(entries), watches: BigInt(watches), bytes: BigInt(bytes) }) }),
  });
}

function encodeWindow({ startsWallMs, endsWallMs, exportScopes, allowSummaries }: CutoverWindow): WireWindow {
  return create(CutoverWindowSchema, {
    startsAt: timestampFromMs(startsWallMs),
    ...(endsWallMs !== undefined && { endsAt: timestampFromMs(endsWallMs) }),
    exportScopes: exportScopes.map(encodeScope),
    ...(allowSummaries !== undefined && { allowSummaries }),
  });
}

function encodeScope(scope: Scope): WireScope {
  return WireScope[enumName(SCOPE_NAMES[scope])];
}

/** Maximum number of clusters that a stage may list. */
const MAX_CLUSTERS = 1000;

/** Decodes a stage. Undefined if the request does not contain a stage. Throws `invalid_argument`. */
export function decodeStage(wire: WireStage | undefined): RolloutStage | undefined {
  if (wire === undefined) return undefined;
  const { by } = wire;
  switch (by.case) {
    case "percent":
      return { by: "percent", percent: by.value };
    case "clusters": {
      const { clusterIds } = by.value;
      if (clusterIds.length > MAX_CLUSTERS)
        throw invalid("stage.clusters.cluster_ids", `must have at most ${MAX_CLUSTERS} items, got ${clusterIds.length}`);
      for (const [index, id] of clusterIds.entries()) {
        const { maxIdLength } = NODE_BOUNDS;
        if (!isName(id, maxIdLength)) throw invalid(`stage.clusters.cluster_ids[${index}]`, nameRule(id, maxIdLength));
      }
      return { by: "clusters", clusterIds };
    }
    case undefined:
      throw invalid("stage.by", "must be percent or clusters; omit the stage to put the set in force everywhere");
  }
}

export function encodeStage(stage: RolloutStage | undefined): WireStage | undefined {
  if (stage === undefined) return undefined;
  switch (stage.by) {
    case "percent":
      return create(StageSchema, { by: { case: "percent", value: stage.percent } });
    case "clusters":
      return create(StageSchema, { by: { case: "clusters", value: { clusterIds: [...stage.clusterIds] } } });
  }
}
