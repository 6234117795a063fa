// Made by scripts/gen-codec.ts from waymark/fabric/v1/fabric.proto: change that, then `npm run gen`.
import { type FieldProblems, quoted } from "../../../../src/catalog/entry/names.ts";
import { isNoTime } from "../../../../src/lib/protowire.ts";
import {
  type BeaconFields,
  type BorderBatchFields,
  type BorderCountFields,
  type BorderDigestFields,
  type BorderFrameFields,
  type BorderHaveFields,
  type BorderRulesFields,
  type DigestFrameFields,
  type DrainCountFields,
  type DrainProgressFields,
  type EntryKeyFields,
  type HandOverFrameFields,
  type HeardRuleFields,
  type HeldStartFields,
  type HelloFrameFields,
  type IngressNodeFields,
  type KeyAnnouncementFields,
  type LatencyBandFields,
  type LinkFrameFields,
  type LinkRequestFields,
  type LinkedFrameFields,
  type LostOriginFields,
  type MaintainRefusalFields,
  type MaintainRequestFields,
  type MaintainResponseFields,
  type MemberSecurityFields,
  type MemberUpdateFields,
  type OriginDigestFields,
  type OriginFields,
  type PolicyFrameFields,
  type PolicyHeadFields,
  type ProbeIndirectRequestFields,
  type ProbeIndirectResponseFields,
  type ProbeRequestFields,
  type ProbeResponseFields,
  type PushPullRequestFields,
  type PushPullResponseFields,
  type ReachFields,
  type RecordsFrameFields,
  type SealedFields,
  type SealedRecordFields,
  type ServiceSummaryFields,
  type SourceAgeFields,
  type SourceAgesFrameFields,
  type SummarySpaceFrameFields,
  type VectorEntryFields,
  type VectorFrameFields,
  type WithdrawalFields,
} from "./fabric_codec.ts";

function checkHelloFrame_protocol_versions(many: readonly number[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 4294967295)) problems.range(item, 0, 4294967295, "");
    if (problems.count !== before) problems.under(before, `protocol_versions[${i}]`);
  }
}

function checkHelloFrame_policy_from(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, 64, "");
    if (problems.count !== before) problems.under(before, `policy_from[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `HelloFrame`. */
export function checkHelloFrame(value: HelloFrameFields, problems: FieldProblems): void {
  problems.name(value.nodeId, 64, "origin.node_id");
  if (!(value.generation >= 0 && value.generation <= 9007199254740991)) problems.range(value.generation, 0, 9007199254740991, "origin.generation");
  if (value.boot !== undefined) {
    if (value.boot !== "") problems.name(value.boot, 64, "origin.boot");
  }
  if (value.bootBefore !== undefined) {
    if (value.bootBefore !== "") problems.name(value.bootBefore, 64, "origin.boot_before");
  }
  problems.name(value.clusterId, 64, "cluster_id");
  problems.name(value.region, 64, "region");
  if (value.protocolVersions.length > 0) checkHelloFrame_protocol_versions(value.protocolVersions, problems);
  if (value.clusterToken !== "") problems.text(value.clusterToken, 1024, "cluster_token");
  problems.pattern(value.clusterToken, { pattern: /^[ -~]*$/u, rule: "printable ASCII" }, "cluster_token");
  if (value.zone !== "") problems.name(value.zone, 64, "zone");
  problems.address(value.address, 263, "address");
  if (value.version !== "") problems.text(value.version, 64, "version");
  problems.pattern(value.version, { pattern: /^[ -~]*$/u, rule: "printable ASCII" }, "version");
  if (value.policyFrom.length > 0) checkHelloFrame_policy_from(value.policyFrom, problems);
  if (value.borderTo !== undefined) {
    if (value.borderTo !== "") problems.name(value.borderTo, 64, "border_to");
  }
}

/** Adds what breaks the contract's rules in `VectorEntry`. */
export function checkVectorEntry(value: VectorEntryFields, problems: FieldProblems): void {
  problems.name(value.nodeId, 64, "origin.node_id");
  if (!(value.generation >= 0 && value.generation <= 9007199254740991)) problems.range(value.generation, 0, 9007199254740991, "origin.generation");
  if (!(value.seq >= 0 && value.seq <= 9007199254740991)) problems.range(value.seq, 0, 9007199254740991, "seq");
  if (!(value.floor >= 0 && value.floor <= 9007199254740991)) problems.range(value.floor, 0, 9007199254740991, "floor");
  if (value.lackingThrough !== undefined) {
    if (!(value.lackingThrough >= 0 && value.lackingThrough <= 9007199254740991)) problems.range(value.lackingThrough, 0, 9007199254740991, "lacking_through");
  }
}

function checkVectorFrame_entries(many: readonly VectorEntryFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkVectorEntry(item, problems);
    if (problems.count !== before) problems.under(before, `entries[${i}].`);
  }
}

function checkVectorFrame_seqs(many: readonly number[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 9007199254740991)) problems.range(item, 0, 9007199254740991, "");
    if (problems.count !== before) problems.under(before, `seqs[${i}]`);
  }
}

function checkVectorFrame_heartbeat_tenths(many: readonly number[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 4294967295)) problems.range(item, 0, 4294967295, "");
    if (problems.count !== before) problems.under(before, `heartbeat_tenths[${i}]`);
  }
}

function checkVectorFrame_heartbeat_seqs(many: readonly number[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 9007199254740991)) problems.range(item, 0, 9007199254740991, "");
    if (problems.count !== before) problems.under(before, `heartbeat_seqs[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `VectorFrame`. */
export function checkVectorFrame(value: VectorFrameFields, problems: FieldProblems): void {
  if (value.entries.length > 0) checkVectorFrame_entries(value.entries, problems);
  if (value.seqs.length > 0) checkVectorFrame_seqs(value.seqs, problems);
  if (value.heartbeatTenths.length > 0) checkVectorFrame_heartbeat_tenths(value.heartbeatTenths, problems);
  if (value.heartbeatSeqs.length > 0) checkVectorFrame_heartbeat_seqs(value.heartbeatSeqs, problems);
  if (!(value.saidMs >= 0 && value.saidMs <= 9007199254740991)) problems.range(value.saidMs, 0, 9007199254740991, "said_ms");
  if (!(value.asOfMs >= 0 && value.asOfMs <= 9007199254740991)) problems.range(value.asOfMs, 0, 9007199254740991, "as_of_ms");
}

/** Adds what breaks the contract's rules in `RecordsFrame`. */
export function checkRecordsFrame(value: RecordsFrameFields, problems: FieldProblems): void {
  problems.name(value.nodeId, 64, "origin.node_id");
  if (!(value.generation >= 0 && value.generation <= 9007199254740991)) problems.range(value.generation, 0, 9007199254740991, "origin.generation");
  if (!(value.after >= 0 && value.after <= 9007199254740991)) problems.range(value.after, 0, 9007199254740991, "after");
  if (!(value.through >= 0 && value.through <= 9007199254740991)) problems.range(value.through, 0, 9007199254740991, "through");
  if (!(value.floor >= 0 && value.floor <= 9007199254740991)) problems.range(value.floor, 0, 9007199254740991, "floor");
  problems.name(value.clusterId, 64, "cluster_id");
  problems.name(value.region, 64, "region");
  if (value.knownSeq !== undefined) {
    if (!(value.knownSeq >= 0 && value.knownSeq <= 9007199254740991)) problems.range(value.knownSeq, 0, 9007199254740991, "known");
  }
}

function checkLinkedFrame_node_ids(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, 64, "");
    if (problems.count !== before) problems.under(before, `node_ids[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `LinkedFrame`. */
export function checkLinkedFrame(value: LinkedFrameFields, problems: FieldProblems): void {
  if (value.nodeIds.length > 0) checkLinkedFrame_node_ids(value.nodeIds, problems);
}

/** Adds what breaks the contract's rules in `OriginDigest`. */
export function checkOriginDigest(value: OriginDigestFields, problems: FieldProblems): void {
  problems.name(value.nodeId, 64, "origin.node_id");
  if (!(value.generation >= 0 && value.generation <= 9007199254740991)) problems.range(value.generation, 0, 9007199254740991, "origin.generation");
  if (!(value.through >= 0 && value.through <= 9007199254740991)) problems.range(value.through, 0, 9007199254740991, "through");
  if (!(value.liveCount >= 0 && value.liveCount <= 9007199254740991)) problems.range(value.liveCount, 0, 9007199254740991, "live_count");
}

function checkDigestFrame_origins(many: readonly OriginDigestFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkOriginDigest(item, problems);
    if (problems.count !== before) problems.under(before, `origins[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `DigestFrame`. */
export function checkDigestFrame(value: DigestFrameFields, problems: FieldProblems): void {
  if (value.origins.length > 0) checkDigestFrame_origins(value.origins, problems);
}

/** Adds what breaks the contract's rules in `PolicyHead`. */
export function checkPolicyHead(value: PolicyHeadFields, problems: FieldProblems): void {
  if (!(value.number >= 0 && value.number <= 9007199254740991)) problems.range(value.number, 0, 9007199254740991, "number");
  if (!(value.hlc >= 0 && value.hlc <= 9007199254740991)) problems.range(value.hlc, 0, 9007199254740991, "hlc");
  if (value.nodeId !== "") problems.name(value.nodeId, 64, "node_id");
  problems.pattern(value.checksum, { pattern: /^([0-9a-f]{64})?$/u, rule: "64 hexadecimal digits in lower case" }, "checksum");
}

/** Adds what breaks the contract's rules in `PolicyFrame`. */
export function checkPolicyFrame(value: PolicyFrameFields, problems: FieldProblems): void {
  if (value.head !== undefined) {
    const before = problems.count;
    checkPolicyHead(value.head, problems);
    if (problems.count !== before) problems.under(before, "head.");
  }
  if (value.wantedNumber !== undefined) {
    if (!(value.wantedNumber >= 0 && value.wantedNumber <= 9007199254740991)) problems.range(value.wantedNumber, 0, 9007199254740991, "wanted_number");
  }
  if (value.part !== undefined) {
    if (value.part.length > 262144) problems.add("part", "has more than 262144 bytes");
  }
  if (value.offset !== undefined) {
    if (!(value.offset >= 0 && value.offset <= 9007199254740991)) problems.range(value.offset, 0, 9007199254740991, "offset");
  }
  if (value.sizeBytes !== undefined) {
    if (!(value.sizeBytes >= 0 && value.sizeBytes <= 16777216)) problems.range(value.sizeBytes, 0, 16777216, "size_bytes");
  }
  if (value.settled !== undefined) {
    const before = problems.count;
    checkPolicyHead(value.settled, problems);
    if (problems.count !== before) problems.under(before, "settled.");
  }
}

function checkHandOverFrame_seqs(many: readonly number[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 9007199254740991)) problems.range(item, 0, 9007199254740991, "");
    if (problems.count !== before) problems.under(before, `seqs[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `HandOverFrame`. */
export function checkHandOverFrame(value: HandOverFrameFields, problems: FieldProblems): void {
  if (value.seqs.length > 0) checkHandOverFrame_seqs(value.seqs, problems);
}

/** Adds what breaks the contract's rules in `SummarySpaceFrame`. */
export function checkSummarySpaceFrame(value: SummarySpaceFrameFields, problems: FieldProblems): void {
  switch (value.space.case) {
    case "vector": {
      const before = problems.count;
      checkVectorFrame(value.space.value, problems);
      if (problems.count !== before) problems.under(before, "vector.");
      return;
    }
    case "records": {
      const before = problems.count;
      checkRecordsFrame(value.space.value, problems);
      if (problems.count !== before) problems.under(before, "records.");
      return;
    }
    case "digests": {
      const before = problems.count;
      checkDigestFrame(value.space.value, problems);
      if (problems.count !== before) problems.under(before, "digests.");
      return;
    }
    case "linked": {
      const before = problems.count;
      checkLinkedFrame(value.space.value, problems);
      if (problems.count !== before) problems.under(before, "linked.");
      return;
    }
    case undefined:
  }
}

/** Adds what breaks the contract's rules in `SourceAge`. */
export function checkSourceAge(value: SourceAgeFields, problems: FieldProblems): void {
  problems.name(value.sourceCluster, 64, "source_cluster");
  if (!(value.version >= 0 && value.version <= 4503599627370496)) problems.range(value.version, 0, 4503599627370496, "version");
  if (!(value.ageMs >= 0 && value.ageMs <= 9007199254740991)) problems.range(value.ageMs, 0, 9007199254740991, "age_ms");
}

function checkSourceAgesFrame_sources(many: readonly SourceAgeFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkSourceAge(item, problems);
    if (problems.count !== before) problems.under(before, `sources[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `SourceAgesFrame`. */
export function checkSourceAgesFrame(value: SourceAgesFrameFields, problems: FieldProblems): void {
  if (value.sources.length > 0) checkSourceAgesFrame_sources(value.sources, problems);
  if (!(value.saidMs >= 0 && value.saidMs <= 9007199254740991)) problems.range(value.saidMs, 0, 9007199254740991, "said_ms");
  if (!(value.asOfMs >= 0 && value.asOfMs <= 9007199254740991)) problems.range(value.asOfMs, 0, 9007199254740991, "as_of_ms");
}

function checkReach_regions(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, 64, "");
    if (problems.count !== before) problems.under(before, `regions[${i}]`);
  }
}

function checkReach_patterns(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 242, "");
    problems.pattern(item, { pattern: /^[ -~]*$/u, rule: "printable ASCII" }, "");
    if (problems.count !== before) problems.under(before, `patterns[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `Reach`. */
export function checkReach(value: ReachFields, problems: FieldProblems): void {
  if (!(value.hops >= 1 && value.hops <= 7)) problems.range(value.hops, 1, 7, "hops");
  if (value.regions.length > 0) checkReach_regions(value.regions, problems);
  if (value.patterns.length > 0) checkReach_patterns(value.patterns, problems);
}

function checkBorderRules_exports(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 242, "");
    problems.pattern(item, { pattern: /^[ -~]*$/u, rule: "printable ASCII" }, "");
    if (problems.count !== before) problems.under(before, `exports[${i}]`);
  }
}

function checkBorderRules_direct_sources(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, 64, "");
    if (problems.count !== before) problems.under(before, `direct_sources[${i}]`);
  }
}

function checkBorderRules_reach(many: readonly ReachFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkReach(item, problems);
    if (problems.count !== before) problems.under(before, `reach[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `BorderRules`. */
export function checkBorderRules(value: BorderRulesFields, problems: FieldProblems): void {
  if (value.exports.length > 0) checkBorderRules_exports(value.exports, problems);
  if (value.directSources.length > 0) checkBorderRules_direct_sources(value.directSources, problems);
  if (value.reach.length > 0) checkBorderRules_reach(value.reach, problems);
}

/** Adds what breaks the contract's rules in `Sealed`. */
export function checkSealed(value: SealedFields, problems: FieldProblems): void {
  if (value.signed.length > 32000) problems.add("signed_text", "has more than 32000 bytes");
  if (value.signature.length > 64) problems.add("signature", "has more than 64 bytes");
  if (!(value.hops >= 0 && value.hops <= 8)) problems.range(value.hops, 0, 8, "hops");
}

function checkBorderBatch_summaries(many: readonly SealedFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkSealed(item, problems);
    if (problems.count !== before) problems.under(before, `summaries[${i}].`);
  }
}

function checkBorderBatch_beacons(many: readonly SealedFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkSealed(item, problems);
    if (problems.count !== before) problems.under(before, `beacons[${i}].`);
  }
}

function checkBorderBatch_keys(many: readonly SealedFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkSealed(item, problems);
    if (problems.count !== before) problems.under(before, `keys[${i}].`);
  }
}

function checkBorderBatch_beacon_ages_ms(many: readonly number[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 4294967295)) problems.range(item, 0, 4294967295, "");
    if (problems.count !== before) problems.under(before, `beacon_ages_ms[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `BorderBatch`. */
export function checkBorderBatch(value: BorderBatchFields, problems: FieldProblems): void {
  if (value.summaries.length > 0) checkBorderBatch_summaries(value.summaries, problems);
  if (value.beacons.length > 0) checkBorderBatch_beacons(value.beacons, problems);
  if (value.keys.length > 0) checkBorderBatch_keys(value.keys, problems);
  if (value.beaconAgesMs.length > 0) checkBorderBatch_beacon_ages_ms(value.beaconAgesMs, problems);
}

/** Adds what breaks the contract's rules in `BorderDigest`. */
export function checkBorderDigest(value: BorderDigestFields, problems: FieldProblems): void {
  if (!(value.count >= 0 && value.count <= 4294967295)) problems.range(value.count, 0, 4294967295, "count");
}

function checkBorderHave_buckets(many: readonly number[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 255)) problems.range(item, 0, 255, "");
    if (problems.count !== before) problems.under(before, `buckets[${i}]`);
  }
}

function checkBorderHave_versions(many: readonly number[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 4503599627370496)) problems.range(item, 0, 4503599627370496, "");
    if (problems.count !== before) problems.under(before, `versions[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `BorderHave`. */
export function checkBorderHave(value: BorderHaveFields, problems: FieldProblems): void {
  if (value.buckets.length > 0) checkBorderHave_buckets(value.buckets, problems);
  if (value.versions.length > 0) checkBorderHave_versions(value.versions, problems);
}

/** Adds what breaks the contract's rules in `BorderFrame`. */
export function checkBorderFrame(value: BorderFrameFields, problems: FieldProblems): void {
  switch (value.border.case) {
    case "rules": {
      const before = problems.count;
      checkBorderRules(value.border.value, problems);
      if (problems.count !== before) problems.under(before, "rules.");
      return;
    }
    case "batch": {
      const before = problems.count;
      checkBorderBatch(value.border.value, problems);
      if (problems.count !== before) problems.under(before, "batch.");
      return;
    }
    case "digest": {
      const before = problems.count;
      checkBorderDigest(value.border.value, problems);
      if (problems.count !== before) problems.under(before, "digest.");
      return;
    }
    case "have": {
      const before = problems.count;
      checkBorderHave(value.border.value, problems);
      if (problems.count !== before) problems.under(before, "have.");
      return;
    }
    case undefined:
  }
}

/** Adds what breaks the contract's rules in `LinkFrame`. */
export function checkLinkFrame(value: LinkFrameFields, problems: FieldProblems): void {
  switch (value.frame.case) {
    case "hello": {
      const before = problems.count;
      checkHelloFrame(value.frame.value, problems);
      if (problems.count !== before) problems.under(before, "hello.");
      return;
    }
    case "vector": {
      const before = problems.count;
      checkVectorFrame(value.frame.value, problems);
      if (problems.count !== before) problems.under(before, "vector.");
      return;
    }
    case "records": {
      const before = problems.count;
      checkRecordsFrame(value.frame.value, problems);
      if (problems.count !== before) problems.under(before, "records.");
      return;
    }
    case "goodbye":
      return;
    case "linked": {
      const before = problems.count;
      checkLinkedFrame(value.frame.value, problems);
      if (problems.count !== before) problems.under(before, "linked.");
      return;
    }
    case "digests": {
      const before = problems.count;
      checkDigestFrame(value.frame.value, problems);
      if (problems.count !== before) problems.under(before, "digests.");
      return;
    }
    case "policy": {
      const before = problems.count;
      checkPolicyFrame(value.frame.value, problems);
      if (problems.count !== before) problems.under(before, "policy.");
      return;
    }
    case "handOver": {
      const before = problems.count;
      checkHandOverFrame(value.frame.value, problems);
      if (problems.count !== before) problems.under(before, "hand_over.");
      return;
    }
    case "summaries": {
      const before = problems.count;
      checkSummarySpaceFrame(value.frame.value, problems);
      if (problems.count !== before) problems.under(before, "summaries.");
      return;
    }
    case "sourceAges": {
      const before = problems.count;
      checkSourceAgesFrame(value.frame.value, problems);
      if (problems.count !== before) problems.under(before, "source_ages.");
      return;
    }
    case "border": {
      const before = problems.count;
      checkBorderFrame(value.frame.value, problems);
      if (problems.count !== before) problems.under(before, "border.");
      return;
    }
    case undefined:
  }
}

/** Adds what breaks the contract's rules in `LinkRequest`. */
export function checkLinkRequest(value: LinkRequestFields, problems: FieldProblems): void {
  if (value.frame !== undefined) {
    const before = problems.count;
    checkLinkFrame(value.frame, problems);
    if (problems.count !== before) problems.under(before, "frame.");
  }
}

/** Adds what breaks the contract's rules in `SealedRecord`. */
export function checkSealedRecord(value: SealedRecordFields, problems: FieldProblems): void {
  switch (value.content.case) {
    case "summary": {
      const before = problems.count;
      checkSealed(value.content.value, problems);
      if (problems.count !== before) problems.under(before, "summary.");
      return;
    }
    case "beacon": {
      const before = problems.count;
      checkSealed(value.content.value, problems);
      if (problems.count !== before) problems.under(before, "beacon.");
      return;
    }
    case "key": {
      const before = problems.count;
      checkSealed(value.content.value, problems);
      if (problems.count !== before) problems.under(before, "key.");
      return;
    }
    case undefined:
  }
}

function checkIngressNode_urls(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    if (item !== "") problems.text(item, 512, "");
    problems.pattern(item, { pattern: /^[a-z][a-z0-9+.-]{0,31}:\/\/[!-~]+$/u, rule: "a URL: a scheme in lower case, :// and printable ASCII without spaces" }, "");
    if (problems.count !== before) problems.under(before, `urls[${i}]`);
  }
}

function checkIngressNode_capabilities(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, 128, "");
    if (problems.count !== before) problems.under(before, `capabilities[${i}]`);
  }
}

function checkIngressNode_tags(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, 128, "");
    if (problems.count !== before) problems.under(before, `tags[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `IngressNode`. */
export function checkIngressNode(value: IngressNodeFields, problems: FieldProblems): void {
  if (value.urls.length > 0) checkIngressNode_urls(value.urls, problems);
  problems.known(value.scope, 4, "a scope", "scope");
  if (value.capabilities.length > 0) checkIngressNode_capabilities(value.capabilities, problems);
  if (value.tags.length > 0) checkIngressNode_tags(value.tags, problems);
}

/** Adds what breaks the contract's rules in `Withdrawal`. */
export function checkWithdrawal(value: WithdrawalFields, problems: FieldProblems): void {
  if (!(value.version >= 0 && value.version <= 4503599627370496)) problems.range(value.version, 0, 4503599627370496, "version");
}

function checkBeacon_ingress(many: readonly IngressNodeFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkIngressNode(item, problems);
    if (problems.count !== before) problems.under(before, `ingress[${i}].`);
  }
}

function checkBeacon_withdrawals(many: readonly WithdrawalFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkWithdrawal(item, problems);
    if (problems.count !== before) problems.under(before, `withdrawals[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `Beacon`. */
export function checkBeacon(value: BeaconFields, problems: FieldProblems): void {
  problems.name(value.sourceCluster, 64, "source_cluster");
  problems.name(value.region, 64, "region");
  if (!(value.generatedAtMs >= 0 && value.generatedAtMs <= 9007199254740991)) problems.range(value.generatedAtMs, 0, 9007199254740991, "generated_at_ms");
  if (!(value.version >= 0 && value.version <= 4503599627370496)) problems.range(value.version, 0, 4503599627370496, "version");
  problems.name(value.exporter, 64, "exporter");
  if (value.keyId !== "") problems.name(value.keyId, 64, "key_id");
  if (!(value.ttlMs >= 0 && value.ttlMs <= 86400000)) problems.range(value.ttlMs, 0, 86400000, "ttl_ms");
  if (value.ingress.length > 0) checkBeacon_ingress(value.ingress, problems);
  if (value.withdrawals.length > 0) checkBeacon_withdrawals(value.withdrawals, problems);
}

/** Adds what breaks the contract's rules in `KeyAnnouncement`. */
export function checkKeyAnnouncement(value: KeyAnnouncementFields, problems: FieldProblems): void {
  problems.name(value.clusterId, 64, "cluster_id");
  problems.name(value.keyId, 64, "key_id");
  if (value.publicKey.length > 32) problems.add("public_key", "has more than 32 bytes");
  problems.name(value.signedBy, 64, "signed_by");
  if (!(value.notBeforeMs >= 0 && value.notBeforeMs <= 9007199254740991)) problems.range(value.notBeforeMs, 0, 9007199254740991, "not_before_ms");
  if (!(value.notAfterMs >= 0 && value.notAfterMs <= 9007199254740991)) problems.range(value.notAfterMs, 0, 9007199254740991, "not_after_ms");
  if (value.holderSignature.length > 64) problems.add("holder_signature", "has more than 64 bytes");
}

/** Adds what breaks the contract's rules in `LatencyBand`. */
export function checkLatencyBand(value: LatencyBandFields, problems: FieldProblems): void {
  if (!(value.min >= 0 && value.min <= 4294967295)) problems.range(value.min, 0, 4294967295, "min");
  if (!(value.max >= 0 && value.max <= 4294967295)) problems.range(value.max, 0, 4294967295, "max");
}

function checkServiceSummary_regions(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, 64, "");
    if (problems.count !== before) problems.under(before, `regions[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `ServiceSummary`. */
export function checkServiceSummary(value: ServiceSummaryFields, problems: FieldProblems): void {
  problems.namespace(value.namespace, 200, "namespace");
  problems.name(value.serviceId, problems.bounds.maxNameLength, "service_id");
  if (value.regions.length > 0) checkServiceSummary_regions(value.regions, problems);
  if (!(value.endpointCount >= 0 && value.endpointCount <= 4294967295)) problems.range(value.endpointCount, 0, 4294967295, "endpoint_count");
  problems.known(value.healthBand, 3, "a health band", "health_band");
  if (value.latencyBandMs !== undefined) {
    const before = problems.count;
    checkLatencyBand(value.latencyBandMs, problems);
    if (problems.count !== before) problems.under(before, "latency_band_ms.");
  }
  {
    if (isNoTime(value.ttl)) problems.add("ttl", "must be more than 0 s");
    else problems.duration(value.ttl, 86400000, "ttl");
  }
  {
    problems.time(value.generatedAt, "generated_at");
  }
  if (value.policyVersion !== "") problems.text(value.policyVersion, 128, "policy_version");
  problems.name(value.sourceCluster, 64, "source_cluster");
  problems.known(value.scope, 4, "a scope", "scope");
  if (value.signature.length > 64) problems.add("signature", "has more than 64 bytes");
  if (value.keyId !== "") problems.name(value.keyId, 64, "key_id");
  problems.known(value.kind, 6, "an entry kind", "kind");
  if (!(value.version >= 0 && value.version <= 4503599627370496)) problems.range(value.version, 0, 4503599627370496, "version");
  problems.name(value.exporter, 64, "exporter");
  if (value.notAfter !== undefined) {
    problems.time(value.notAfter, "not_after");
  }
  if (value.signedBytes.length > 4096) problems.add("signed_bytes", "has more than 4096 bytes");
  if (!(value.policyNumber >= 0 && value.policyNumber <= 9007199254740991)) problems.range(value.policyNumber, 0, 9007199254740991, "policy_number");
  if (value.policyRule !== "") problems.text(value.policyRule, 242, "policy_rule");
  problems.pattern(value.policyRule, { pattern: /^[ -~]*$/u, rule: "printable ASCII" }, "policy_rule");
}

/** Adds what breaks the contract's rules in `Origin`. */
export function checkOrigin(value: OriginFields, problems: FieldProblems): void {
  problems.name(value.nodeId, 64, "node_id");
  if (!(value.generation >= 0 && value.generation <= 9007199254740991)) problems.range(value.generation, 0, 9007199254740991, "generation");
  if (value.clusterId !== "") problems.name(value.clusterId, 64, "cluster_id");
  if (value.region !== "") problems.name(value.region, 64, "region");
  if (value.boot !== undefined) {
    if (value.boot !== "") problems.name(value.boot, 64, "boot");
  }
  if (value.bootBefore !== undefined) {
    if (value.bootBefore !== "") problems.name(value.bootBefore, 64, "boot_before");
  }
}

/** Adds what breaks the contract's rules in `BorderCount`. */
export function checkBorderCount(value: BorderCountFields, problems: FieldProblems): void {
  problems.name(value.region, 64, "region");
  if (!(value.links >= 0 && value.links <= 1024)) problems.range(value.links, 0, 1024, "links");
}

function checkHeardRule_exports(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 242, "");
    problems.pattern(item, { pattern: /^[ -~]*$/u, rule: "printable ASCII" }, "");
    if (problems.count !== before) problems.under(before, `exports[${i}]`);
  }
}

function checkHeardRule_reached(many: readonly ReachFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkReach(item, problems);
    if (problems.count !== before) problems.under(before, `reached[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `HeardRule`. */
export function checkHeardRule(value: HeardRuleFields, problems: FieldProblems): void {
  problems.name(value.clusterId, 64, "cluster_id");
  problems.name(value.region, 64, "region");
  if (value.exports.length > 0) checkHeardRule_exports(value.exports, problems);
  if (value.reached !== undefined) {
    checkHeardRule_reached(value.reached, problems);
  }
}

/** Adds what breaks the contract's rules in `DrainCount`. */
export function checkDrainCount(value: DrainCountFields, problems: FieldProblems): void {
  if (value.kind !== "") problems.text(value.kind, 16, "kind");
  if (!(value.count >= 0 && value.count <= 9007199254740991)) problems.range(value.count, 0, 9007199254740991, "count");
}

function checkDrainProgress_left(many: readonly DrainCountFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkDrainCount(item, problems);
    if (problems.count !== before) problems.under(before, `left[${i}].`);
  }
}

function checkDrainProgress_urls(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    if (item !== "") problems.text(item, 272, "");
    problems.pattern(item, { pattern: /^[ -~]*$/u, rule: "printable ASCII" }, "");
    if (problems.count !== before) problems.under(before, `urls[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `DrainProgress`. */
export function checkDrainProgress(value: DrainProgressFields, problems: FieldProblems): void {
  if (value.step !== "") problems.text(value.step, 16, "step");
  if (!(value.sinceMs >= 0 && value.sinceMs <= 9007199254740991)) problems.range(value.sinceMs, 0, 9007199254740991, "since_ms");
  if (value.left.length > 0) checkDrainProgress_left(value.left, problems);
  if (value.urls.length > 0) checkDrainProgress_urls(value.urls, problems);
}

function checkMemberSecurity_roots(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    if (item !== "") problems.text(item, 16, "");
    if (problems.count !== before) problems.under(before, `roots[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `MemberSecurity`. */
export function checkMemberSecurity(value: MemberSecurityFields, problems: FieldProblems): void {
  if (value.source !== "") problems.text(value.source, 16, "source");
  if (value.issuer !== "") problems.text(value.issuer, 64, "issuer");
  if (!(value.expiresS >= 0 && value.expiresS <= 9007199254740)) problems.range(value.expiresS, 0, 9007199254740, "expires_s");
  if (value.root !== "") problems.text(value.root, 16, "root");
  if (value.roots.length > 0) checkMemberSecurity_roots(value.roots, problems);
}

function checkMemberUpdate_protocol_versions(many: readonly number[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 4294967295)) problems.range(item, 0, 4294967295, "");
    if (problems.count !== before) problems.under(before, `protocol_versions[${i}]`);
  }
}

function checkMemberUpdate_transports(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, 64, "");
    if (problems.count !== before) problems.under(before, `transports[${i}]`);
  }
}

function checkMemberUpdate_roles(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, 64, "");
    if (problems.count !== before) problems.under(before, `roles[${i}]`);
  }
}

function checkMemberUpdate_labels(many: Readonly<Record<string, string>>, problems: FieldProblems): void {
  let count = 0;
  for (const key in many) {
    count++;
    const value = many[key] ?? "";
    const before = problems.count;
    problems.name(key, 63, "");
    if (value !== "") problems.text(value, 256, "");
    if (problems.count !== before) problems.under(before, `labels[${quoted(key)}]`);
  }
  problems.items(count, 64, "labels");
}

function checkMemberUpdate_borders(many: readonly BorderCountFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkBorderCount(item, problems);
    if (problems.count !== before) problems.under(before, `borders[${i}].`);
  }
}

function checkMemberUpdate_heard_rules(many: readonly HeardRuleFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkHeardRule(item, problems);
    if (problems.count !== before) problems.under(before, `heard_rules[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `MemberUpdate`. */
export function checkMemberUpdate(value: MemberUpdateFields, problems: FieldProblems): void {
  problems.name(value.nodeId, 64, "node_id");
  if (!(value.incarnation >= 0 && value.incarnation <= 9007199254740991)) problems.range(value.incarnation, 0, 9007199254740991, "incarnation");
  problems.address(value.address, 263, "address");
  problems.name(value.clusterId, 64, "cluster_id");
  problems.name(value.region, 64, "region");
  if (value.zone !== "") problems.name(value.zone, 64, "zone");
  if (!(value.generation >= 0 && value.generation <= 9007199254740991)) problems.range(value.generation, 0, 9007199254740991, "generation");
  if (value.version !== "") problems.text(value.version, 64, "version");
  problems.pattern(value.version, { pattern: /^[ -~]*$/u, rule: "printable ASCII" }, "version");
  if (value.protocolVersions.length > 0) checkMemberUpdate_protocol_versions(value.protocolVersions, problems);
  if (value.transports.length > 0) checkMemberUpdate_transports(value.transports, problems);
  if (!(value.healthScore >= 0 && value.healthScore <= 4294967295)) problems.range(value.healthScore, 0, 4294967295, "health_score");
  if (value.roles.length > 0) checkMemberUpdate_roles(value.roles, problems);
  checkMemberUpdate_labels(value.labels, problems);
  if (value.accuser !== "") problems.name(value.accuser, 64, "accuser");
  if (value.boot !== undefined) {
    if (value.boot !== "") problems.name(value.boot, 64, "boot");
  }
  if (value.bootBefore !== undefined) {
    if (value.bootBefore !== "") problems.name(value.bootBefore, 64, "boot_before");
  }
  if (value.borders !== undefined) {
    checkMemberUpdate_borders(value.borders, problems);
  }
  if (value.heardRules !== undefined) {
    checkMemberUpdate_heard_rules(value.heardRules, problems);
  }
  if (value.controlStore !== undefined) {
    if (value.controlStore !== "") problems.name(value.controlStore, 64, "control_store");
  }
  if (value.desired !== undefined) {
    if (value.desired !== "") problems.text(value.desired, 16, "desired");
  }
  if (value.drain !== undefined) {
    const before = problems.count;
    checkDrainProgress(value.drain, problems);
    if (problems.count !== before) problems.under(before, "drain.");
  }
  if (value.configDigest !== undefined) {
    if (value.configDigest !== "") problems.name(value.configDigest, 16, "config_digest");
  }
  if (value.security !== undefined) {
    const before = problems.count;
    checkMemberSecurity(value.security, problems);
    if (problems.count !== before) problems.under(before, "security.");
  }
}

function checkProbeRequest_updates(many: readonly MemberUpdateFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkMemberUpdate(item, problems);
    if (problems.count !== before) problems.under(before, `updates[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `ProbeRequest`. */
export function checkProbeRequest(value: ProbeRequestFields, problems: FieldProblems): void {
  {
    const before = problems.count;
    checkOrigin(value.from, problems);
    if (problems.count !== before) problems.under(before, "origin.");
  }
  if (value.updates.length > 0) checkProbeRequest_updates(value.updates, problems);
  if (value.targetNodeId !== "") problems.name(value.targetNodeId, 64, "target_node_id");
}

/** Adds what breaks the contract's rules in `HeldStart`. */
export function checkHeldStart(value: HeldStartFields, problems: FieldProblems): void {
  problems.name(value.boot, 64, "boot");
  if (value.address !== "") problems.address(value.address, 263, "address");
}

function checkProbeResponse_updates(many: readonly MemberUpdateFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkMemberUpdate(item, problems);
    if (problems.count !== before) problems.under(before, `updates[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `ProbeResponse`. */
export function checkProbeResponse(value: ProbeResponseFields, problems: FieldProblems): void {
  {
    const before = problems.count;
    checkOrigin(value.from, problems);
    if (problems.count !== before) problems.under(before, "origin.");
  }
  if (value.updates.length > 0) checkProbeResponse_updates(value.updates, problems);
  if (value.wallMs !== undefined) {
    if (!(value.wallMs >= 0 && value.wallMs <= 9007199254740991)) problems.range(value.wallMs, 0, 9007199254740991, "wall_ms");
  }
  if (value.heldStart !== undefined) {
    const before = problems.count;
    checkHeldStart(value.heldStart, problems);
    if (problems.count !== before) problems.under(before, "held_start.");
  }
}

function checkProbeIndirectRequest_updates(many: readonly MemberUpdateFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkMemberUpdate(item, problems);
    if (problems.count !== before) problems.under(before, `updates[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `ProbeIndirectRequest`. */
export function checkProbeIndirectRequest(value: ProbeIndirectRequestFields, problems: FieldProblems): void {
  {
    const before = problems.count;
    checkOrigin(value.from, problems);
    if (problems.count !== before) problems.under(before, "origin.");
  }
  problems.name(value.targetNodeId, 64, "target_node_id");
  problems.address(value.targetAddress, 263, "target_address");
  {
    if (isNoTime(value.timeout)) problems.add("timeout", "must be more than 0 s");
    else problems.duration(value.timeout, 60000, "timeout");
  }
  if (value.updates.length > 0) checkProbeIndirectRequest_updates(value.updates, problems);
}

function checkProbeIndirectResponse_updates(many: readonly MemberUpdateFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkMemberUpdate(item, problems);
    if (problems.count !== before) problems.under(before, `updates[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `ProbeIndirectResponse`. */
export function checkProbeIndirectResponse(value: ProbeIndirectResponseFields, problems: FieldProblems): void {
  if (value.updates.length > 0) checkProbeIndirectResponse_updates(value.updates, problems);
}

/** Adds what breaks the contract's rules in `EntryKey`. */
export function checkEntryKey(value: EntryKeyFields, problems: FieldProblems): void {
  problems.known(value.kind, 6, "an entry kind", "kind");
  problems.namespace(value.namespace, 200, "namespace");
  problems.name(value.name, 128, "name");
  problems.name(value.instanceId, 128, "instance_id");
  if (value.clusterId !== "") problems.name(value.clusterId, 64, "cluster_id");
}

function checkMaintainRequest_keys(many: readonly EntryKeyFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkEntryKey(item, problems);
    if (problems.count !== before) problems.under(before, `keys[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `MaintainRequest`. */
export function checkMaintainRequest(value: MaintainRequestFields, problems: FieldProblems): void {
  {
    const before = problems.count;
    checkOrigin(value.from, problems);
    if (problems.count !== before) problems.under(before, "origin.");
  }
  problems.name(value.targetNodeId, 64, "target_node_id");
  if (value.keys.length > 0) checkMaintainRequest_keys(value.keys, problems);
  problems.bytes(value.reason, 256, "reason");
  if (!(value.untilMs >= 0 && value.untilMs <= 9007199254740991)) problems.range(value.untilMs, 0, 9007199254740991, "until_ms");
  if (value.principal !== "") problems.text(value.principal, 512, "principal");
}

/** Adds what breaks the contract's rules in `MaintainRefusal`. */
export function checkMaintainRefusal(value: MaintainRefusalFields, problems: FieldProblems): void {
  if (!(value.index >= 0 && value.index <= 1000)) problems.range(value.index, 0, 1000, "index");
  if (value.reason !== "") problems.text(value.reason, 64, "reason");
  problems.bytes(value.detail, 1024, "detail");
}

function checkMaintainResponse_refusals(many: readonly MaintainRefusalFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkMaintainRefusal(item, problems);
    if (problems.count !== before) problems.under(before, `refusals[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `MaintainResponse`. */
export function checkMaintainResponse(value: MaintainResponseFields, problems: FieldProblems): void {
  {
    const before = problems.count;
    checkOrigin(value.from, problems);
    if (problems.count !== before) problems.under(before, "origin.");
  }
  if (!(value.changed >= 0 && value.changed <= 4294967295)) problems.range(value.changed, 0, 4294967295, "changed");
  if (value.refusals.length > 0) checkMaintainResponse_refusals(value.refusals, problems);
}

/** Adds what breaks the contract's rules in `LostOrigin`. */
export function checkLostOrigin(value: LostOriginFields, problems: FieldProblems): void {
  problems.name(value.nodeId, 64, "origin.node_id");
  if (!(value.generation >= 0 && value.generation <= 9007199254740991)) problems.range(value.generation, 0, 9007199254740991, "origin.generation");
  if (!(value.through >= 0 && value.through <= 9007199254740991)) problems.range(value.through, 0, 9007199254740991, "through");
  if (!(value.mark >= 0 && value.mark <= 9007199254740991)) problems.range(value.mark, 0, 9007199254740991, "mark");
  if (value.keysThrough !== undefined) {
    if (!(value.keysThrough >= 0 && value.keysThrough <= 9007199254740991)) problems.range(value.keysThrough, 0, 9007199254740991, "keys_through");
  }
}

function checkPushPullRequest_members(many: readonly MemberUpdateFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkMemberUpdate(item, problems);
    if (problems.count !== before) problems.under(before, `members[${i}].`);
  }
}

function checkPushPullRequest_lost(many: readonly LostOriginFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkLostOrigin(item, problems);
    if (problems.count !== before) problems.under(before, `lost[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `PushPullRequest`. */
export function checkPushPullRequest(value: PushPullRequestFields, problems: FieldProblems): void {
  if (value.members.length > 0) checkPushPullRequest_members(value.members, problems);
  {
    const before = problems.count;
    checkOrigin(value.from, problems);
    if (problems.count !== before) problems.under(before, "origin.");
  }
  if (value.lost !== undefined) {
    checkPushPullRequest_lost(value.lost, problems);
  }
}

function checkPushPullResponse_members(many: readonly MemberUpdateFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkMemberUpdate(item, problems);
    if (problems.count !== before) problems.under(before, `members[${i}].`);
  }
}

function checkPushPullResponse_lost(many: readonly LostOriginFields[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkLostOrigin(item, problems);
    if (problems.count !== before) problems.under(before, `lost[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `PushPullResponse`. */
export function checkPushPullResponse(value: PushPullResponseFields, problems: FieldProblems): void {
  if (value.members.length > 0) checkPushPullResponse_members(value.members, problems);
  {
    const before = problems.count;
    checkOrigin(value.from, problems);
    if (problems.count !== before) problems.under(before, "origin.");
  }
  if (value.lost !== undefined) {
    checkPushPullResponse_lost(value.lost, problems);
  }
  if (value.heldStart !== undefined) {
    const before = problems.count;
    checkHeldStart(value.heldStart, problems);
    if (problems.count !== before) problems.under(before, "held_start.");
  }
}
