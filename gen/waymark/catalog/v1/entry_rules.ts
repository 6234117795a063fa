// Made by scripts/gen-codec.ts from waymark/catalog/v1/entry.proto: change that, then `npm run gen`.
import { type FieldProblems, quoted } from "../../../../src/catalog/entry/names.ts";
import {
  type AliasCheckFields,
  type CacheDetailFields,
  type CheckFields,
  type CheckStateFields,
  type EntryFields,
  type EntryKeyFields,
  type FunctionDetailFields,
  type GrpcCheckFields,
  type HttpCheckFields,
  type LoadReportFields,
  type MaintenanceFields,
  type NodeDetailFields,
  type QueueDetailFields,
  type TargetFields,
  type TopicDetailFields,
} from "./entry_codec.ts";

/** Adds what breaks the contract's rules in `EntryKey`. */
export function checkEntryKey(value: EntryKeyFields, problems: FieldProblems): void {
  problems.known(value.kind, 6, "an entry kind", "kind");
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  problems.name(value.name, problems.bounds.maxNameLength, "name");
  problems.name(value.instanceId, problems.bounds.maxNameLength, "instance_id");
  if (value.clusterId !== "") problems.name(value.clusterId, problems.bounds.maxIdLength, "cluster_id");
}

/** Adds what breaks the contract's rules in `Target`. */
export function checkTarget(value: TargetFields, problems: FieldProblems): void {
  if (value.name !== "") problems.name(value.name, problems.bounds.maxNameLength, "name");
  problems.host(value.host, problems.bounds.maxHostLength, "host");
  if (!(value.port >= 0 && value.port <= 65535)) problems.range(value.port, 0, 65535, "port");
  if (!(value.priority >= 0 && value.priority <= 65535)) problems.range(value.priority, 0, 65535, "priority");
  if (!(value.weight >= 0 && value.weight <= 65535)) problems.range(value.weight, 0, 65535, "weight");
  if (value.protocol !== "") problems.name(value.protocol, problems.bounds.maxNameLength, "protocol");
}

/** Adds what breaks the contract's rules in `LoadReport`. */
export function checkLoadReport(value: LoadReportFields, problems: FieldProblems): void {
  if (!(value.activeClients >= 0 && value.activeClients <= 4294967295)) problems.range(value.activeClients, 0, 4294967295, "active_clients");
  if (!(value.errorRate >= 0 && value.errorRate <= 1)) problems.range(value.errorRate, 0, 1, "error_rate");
  if (!(value.latencyMs >= 0 && value.latencyMs <= 1000000000)) problems.range(value.latencyMs, 0, 1000000000, "latency_ms");
  if (!(value.utilization >= 0 && value.utilization <= 1)) problems.range(value.utilization, 0, 1, "utilization");
  if (value.observedAt !== undefined) {
    problems.time(value.observedAt, "observed_at");
  }
}

function checkFunctionDetail_resources(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxListItems, "resources");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `resources[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `FunctionDetail`. */
export function checkFunctionDetail(value: FunctionDetailFields, problems: FieldProblems): void {
  if (value.functionId !== "") problems.name(value.functionId, problems.bounds.maxNameLength, "function_id");
  if (value.version !== "") problems.text(value.version, 128, "version");
  if (value.specDigest !== "") problems.name(value.specDigest, problems.bounds.maxNameLength, "spec_digest");
  if (value.resources.length > 0) checkFunctionDetail_resources(value.resources, problems);
}

function checkTopicDetail_patterns(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxListItems, "patterns");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, problems.bounds.maxPatternLength, "");
    if (problems.count !== before) problems.under(before, `patterns[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `TopicDetail`. */
export function checkTopicDetail(value: TopicDetailFields, problems: FieldProblems): void {
  if (value.patterns.length > 0) checkTopicDetail_patterns(value.patterns, problems);
}

function checkQueueDetail_delivery_guarantees(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxListItems, "delivery_guarantees");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `delivery_guarantees[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `QueueDetail`. */
export function checkQueueDetail(value: QueueDetailFields, problems: FieldProblems): void {
  if (value.deliveryGuarantees.length > 0) checkQueueDetail_delivery_guarantees(value.deliveryGuarantees, problems);
}

function checkCacheDetail_modes(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxListItems, "modes");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `modes[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `CacheDetail`. */
export function checkCacheDetail(value: CacheDetailFields, problems: FieldProblems): void {
  if (value.role !== "") problems.name(value.role, problems.bounds.maxNameLength, "role");
  if (!(value.latitude >= -90 && value.latitude <= 90)) problems.range(value.latitude, -90, 90, "latitude");
  if (!(value.longitude >= -180 && value.longitude <= 180)) problems.range(value.longitude, -180, 180, "longitude");
  if (value.modes.length > 0) checkCacheDetail_modes(value.modes, problems);
  if (value.region !== "") problems.name(value.region, problems.bounds.maxIdLength, "region");
  if (!(value.utilization >= 0 && value.utilization <= 1)) problems.range(value.utilization, 0, 1, "utilization");
  if (!(value.latencyMs >= 0 && value.latencyMs <= 1000000000)) problems.range(value.latencyMs, 0, 1000000000, "latency_ms");
}

function checkNodeDetail_advertised_urls(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxListItems, "advertised_urls");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    if (item !== "") problems.text(item, problems.bounds.maxUrlLength, "");
    if (problems.count !== before) problems.under(before, `advertised_urls[${i}]`);
  }
}

function checkNodeDetail_transports(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxListItems, "transports");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    if (item !== "") problems.text(item, problems.bounds.maxEntryBytes, "");
    if (problems.count !== before) problems.under(before, `transports[${i}]`);
  }
}

function checkNodeDetail_protocol_versions(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxListItems, "protocol_versions");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 4294967295)) problems.range(item, 0, 4294967295, "");
    if (problems.count !== before) problems.under(before, `protocol_versions[${i}]`);
  }
}

function checkNodeDetail_labels(many: Readonly<Record<string, string>>, problems: FieldProblems): void {
  let count = 0;
  for (const key in many) {
    count++;
    const value = many[key] ?? "";
    const before = problems.count;
    if (key !== "") problems.text(key, problems.bounds.maxEntryBytes, "");
    if (value !== "") problems.text(value, problems.bounds.maxEntryBytes, "");
    if (problems.count !== before) problems.under(before, `labels[${quoted(key)}]`);
  }
  problems.items(count, problems.bounds.maxListItems, "labels");
}

/** Adds what breaks the contract's rules in `NodeDetail`. */
export function checkNodeDetail(value: NodeDetailFields, problems: FieldProblems): void {
  if (value.advertisedUrls.length > 0) checkNodeDetail_advertised_urls(value.advertisedUrls, problems);
  if (value.transports.length > 0) checkNodeDetail_transports(value.transports, problems);
  if (value.protocolVersions.length > 0) checkNodeDetail_protocol_versions(value.protocolVersions, problems);
  checkNodeDetail_labels(value.labels, problems);
}

/** Adds what breaks the contract's rules in `GrpcCheck`. */
export function checkGrpcCheck(value: GrpcCheckFields, problems: FieldProblems): void {
  if (value.service !== "") problems.name(value.service, problems.bounds.maxNameLength, "service");
}

/** Adds what breaks the contract's rules in `HttpCheck`. */
export function checkHttpCheck(value: HttpCheckFields, problems: FieldProblems): void {
  if (value.path !== "") problems.text(value.path, problems.bounds.maxUrlLength, "path");
  problems.pattern(value.path, { pattern: /^(\/[!-~]*)?$/u, rule: "a path that starts with / and has printable ASCII without spaces" }, "path");
  if (!(value.statusMin >= 0 && value.statusMin <= 599)) problems.range(value.statusMin, 0, 599, "status_min");
  if (!(value.statusMax >= 0 && value.statusMax <= 599)) problems.range(value.statusMax, 0, 599, "status_max");
}

/** Adds what breaks the contract's rules in `AliasCheck`. */
export function checkAliasCheck(value: AliasCheckFields, problems: FieldProblems): void {
  if (value.key === undefined) problems.add("key", "is required");
  if (value.key !== undefined) {
    const before = problems.count;
    checkEntryKey(value.key, problems);
    if (problems.count !== before) problems.under(before, "key.");
  }
}

/** Adds what breaks the contract's rules in `Check`. */
export function checkCheck(value: CheckFields, problems: FieldProblems): void {
  if (value.target !== "") problems.name(value.target, problems.bounds.maxNameLength, "target");
  if (value.interval !== undefined) {
    problems.duration(value.interval, 3600000, "interval", 1000);
  }
  if (value.timeout !== undefined) {
    problems.duration(value.timeout, 60000, "timeout", 1000);
  }
  if (!(value.failing >= 0 && value.failing <= 10)) problems.range(value.failing, 0, 10, "failing");
  if (!(value.passing >= 0 && value.passing <= 10)) problems.range(value.passing, 0, 10, "passing");
  switch (value.probe.case) {
    case "grpc": {
      const before = problems.count;
      checkGrpcCheck(value.probe.value, problems);
      if (problems.count !== before) problems.under(before, "grpc.");
      return;
    }
    case "http": {
      const before = problems.count;
      checkHttpCheck(value.probe.value, problems);
      if (problems.count !== before) problems.under(before, "http.");
      return;
    }
    case "tcp":
      return;
    case "ttl":
      return;
    case "alias": {
      const before = problems.count;
      checkAliasCheck(value.probe.value, problems);
      if (problems.count !== before) problems.under(before, "alias.");
      return;
    }
    case undefined:
  }
}

/** Adds what breaks the contract's rules in `CheckState`. */
export function checkCheckState(value: CheckStateFields, problems: FieldProblems): void {
  problems.known(value.health, 5, "a health status", "health");
  problems.known(value.failure, 10, "a check failure", "failure");
  if (!(value.httpStatus >= 0 && value.httpStatus <= 999)) problems.range(value.httpStatus, 0, 999, "http_status");
  problems.known(value.lastHealth, 5, "a health status", "last_health");
}

/** Adds what breaks the contract's rules in `Maintenance`. */
export function checkMaintenance(value: MaintenanceFields, problems: FieldProblems): void {
  problems.bytes(value.reason, 256, "reason");
  if (value.until !== undefined) {
    problems.time(value.until, "until");
  }
}

function checkEntry_targets(many: readonly TargetFields[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxTargets, "targets");
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkTarget(item, problems);
    if (problems.count !== before) problems.under(before, `targets[${i}].`);
  }
}

function checkEntry_tags(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxListItems, "tags");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `tags[${i}]`);
  }
  problems.unique(many, "tags");
}

function checkEntry_capabilities(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxListItems, "capabilities");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `capabilities[${i}]`);
  }
  problems.unique(many, "capabilities");
}

function checkEntry_resources(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxListItems, "resources");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `resources[${i}]`);
  }
  problems.unique(many, "resources");
}

function checkEntry_metadata(many: Readonly<Record<string, string>>, problems: FieldProblems): void {
  let count = 0;
  for (const key in many) {
    count++;
    const value = many[key] ?? "";
    const before = problems.count;
    problems.name(key, problems.bounds.maxMetadataKeyLength, "");
    problems.bytes(value, problems.bounds.maxMetadataValueBytes, "");
    if (problems.count !== before) problems.under(before, `metadata[${quoted(key)}]`);
  }
  problems.items(count, problems.bounds.maxMetadataPairs, "metadata");
}

function checkEntry_aliases(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, problems.bounds.maxListItems, "aliases");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.alias(item, problems.bounds.maxAliasLength, "");
    if (problems.count !== before) problems.under(before, `aliases[${i}]`);
  }
  problems.unique(many, "aliases");
}

function checkEntry_checks(many: readonly CheckFields[], problems: FieldProblems): void {
  problems.items(many.length, 4, "checks");
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkCheck(item, problems);
    if (problems.count !== before) problems.under(before, `checks[${i}].`);
  }
}

function checkEntry_check_states(many: readonly CheckStateFields[], problems: FieldProblems): void {
  problems.items(many.length, 4, "check_states");
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkCheckState(item, problems);
    if (problems.count !== before) problems.under(before, `check_states[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `Entry`. */
export function checkEntry(value: EntryFields, problems: FieldProblems): void {
  if (value.key === undefined) problems.add("key", "is required");
  if (value.key !== undefined) {
    const before = problems.count;
    checkEntryKey(value.key, problems);
    if (problems.count !== before) problems.under(before, "key.");
  }
  problems.known(value.scope, 4, "a scope", "scope");
  if (value.targets.length > 0) checkEntry_targets(value.targets, problems);
  if (value.tags.length > 0) checkEntry_tags(value.tags, problems);
  if (value.capabilities.length > 0) checkEntry_capabilities(value.capabilities, problems);
  if (value.resources.length > 0) checkEntry_resources(value.resources, problems);
  checkEntry_metadata(value.metadata, problems);
  if (value.ttl !== undefined) {
    problems.duration(value.ttl, problems.bounds.maxEntryTtlMs, "ttl");
  }
  if (value.aliases.length > 0) checkEntry_aliases(value.aliases, problems);
  if (value.clusterId !== "") problems.text(value.clusterId, problems.bounds.maxIdLength, "cluster_id");
  if (value.region !== "") problems.text(value.region, problems.bounds.maxIdLength, "region");
  if (value.zone !== "") problems.name(value.zone, problems.bounds.maxIdLength, "zone");
  if (value.nodeId !== "") problems.text(value.nodeId, problems.bounds.maxIdLength, "node_id");
  if (value.tenantId !== "") problems.text(value.tenantId, problems.bounds.maxIdLength, "tenant_id");
  if (value.health === 5) problems.add("health", "must be one of HEALTHY, DEGRADED, CRITICAL, MAINTENANCE, got ORPHANED");
  problems.known(value.health, 5, "a health status", "health");
  if (value.load !== undefined) {
    const before = problems.count;
    checkLoadReport(value.load, problems);
    if (problems.count !== before) problems.under(before, "load.");
  }
  if (value.checks.length > 0) checkEntry_checks(value.checks, problems);
  problems.known(value.reportedHealth, 5, "a health status", "reported_health");
  if (value.checkStates.length > 0) checkEntry_check_states(value.checkStates, problems);
  if (value.maintenance !== undefined) {
    const before = problems.count;
    checkMaintenance(value.maintenance, problems);
    if (problems.count !== before) problems.under(before, "maintenance.");
  }
  switch (value.detail.case) {
    case "service":
      return;
    case "function": {
      const before = problems.count;
      checkFunctionDetail(value.detail.value, problems);
      if (problems.count !== before) problems.under(before, "function.");
      return;
    }
    case "topic": {
      const before = problems.count;
      checkTopicDetail(value.detail.value, problems);
      if (problems.count !== before) problems.under(before, "topic.");
      return;
    }
    case "queue": {
      const before = problems.count;
      checkQueueDetail(value.detail.value, problems);
      if (problems.count !== before) problems.under(before, "queue.");
      return;
    }
    case "cache": {
      const before = problems.count;
      checkCacheDetail(value.detail.value, problems);
      if (problems.count !== before) problems.under(before, "cache.");
      return;
    }
    case "node": {
      const before = problems.count;
      checkNodeDetail(value.detail.value, problems);
      if (problems.count !== before) problems.under(before, "node.");
      return;
    }
    case undefined:
  }
}
