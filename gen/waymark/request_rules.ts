// Made by scripts/gen-codec.ts from the protos of the services: change these, then `npm run gen`.
import { type FieldProblems, quoted } from "../../src/catalog/entry/names.ts";
import type { Viewer } from "./catalog/v1/viewer_pb.js";
import type { AuditServiceListRequest, AuditServiceWatchRequest } from "./control/v1/audit_pb.js";
import type { AttestationIssuer, BootstrapServiceApplyJoinPolicyRequest, BootstrapServiceCreateTokenRequest, BootstrapServiceDropRootRequest, BootstrapServiceIssueRequest, BootstrapServiceListIdentitiesRequest, BootstrapServiceListTokensRequest, BootstrapServicePublishRootRequest, BootstrapServiceRevokeRequest, BootstrapServiceRevokeTokenRequest, JoinPolicy, JoinRule, RequiredAttestation, RequiredClaim } from "./control/v1/bootstrap_pb.js";
import type { ConfigServiceValidateRequest } from "./control/v1/config_pb.js";
import type { CredentialServiceCreateRequest, CredentialServiceListRequest, CredentialServiceRevokeRequest } from "./control/v1/credential_pb.js";
import type { JoinServiceJoinRequest, JoinServiceRenewRequest } from "./control/v1/join_pb.js";
import type { LeadershipServiceCampaignRequest, LeadershipServiceListRequest, LeadershipServiceRaiseStoreEpochRequest, LeadershipServiceResignRequest, LeadershipServiceSubscribeRequest } from "./control/v1/leadership_pb.js";
import type { PeerServiceCordonRequest, PeerServiceDrainRequest, PeerServiceForgetRequest, PeerServiceGetRequest, PeerServiceKeysRequest, PeerServiceLagRequest, PeerServiceListRequest, PeerServiceSetLabelsRequest, PeerServiceUncordonRequest, PeerServiceWatchRequest } from "./control/v1/peer_pb.js";
import type { RebalanceServiceApproveRequest, RebalanceServiceCancelRequest, RebalanceServiceFreezeRequest, RebalanceServiceListPlansRequest, RebalanceServiceProposeRequest, RebalanceServiceWatchRequest } from "./control/v1/rebalance_pb.js";
import type { OverloadThresholds, ShardLoad, ShardServiceApplyRequest, ShardServiceAttachRequest, ShardServiceDeleteRequest, ShardServiceDiffRequest, ShardServiceGetRequest, ShardServiceHistoryRequest, ShardServiceListRequest, ShardServiceSetShardRequest, ShardServiceSimulateRequest, ShardServiceWatchRequest, ShardSettings, SimulatedOwner } from "./control/v1/shard_pb.js";
import type { CatalogQueryRequest, CatalogWatchRequest, ClusterMapRequest, EntryReport, KeepAliveRequest, ListPeersRequest, NamespaceStatusRequest, Preference, RegisterRequest, RenewRequest, ResolveRequest as DiscoveryResolveRequest, SetMaintenanceRequest, UnregisterRequest } from "./discovery/v1/discovery_pb.js";
import type { SummaryQueryRequest, SummaryWatchRequest } from "./discovery/v1/summary_pb.js";
import type { DescribeNameRequest, Endpoint, ListNamesRequest, NameSource, RegisterNameRequest, RegisteredName, ResolveNameRequest, UnregisterNameRequest } from "./dns/v1/dns_pb.js";
import type { AccessAuditRequest, ApplyPolicyRequest, ExplainRequest, PolicyAuditRequest, PolicyHistoryRequest, PolicyPlace, RollbackPolicyRequest, ValidatePolicyRequest, VerifyAuditRequest, WatchPolicyRequest } from "./policy/v1/policy_pb.js";
import type { EvictRequest, PrewarmRequest, ResolveRequest as ResolverResolveRequest, ResyncRequest } from "./resolver/v1/resolver_pb.js";

/** Adds what breaks the contract's rules in `ValidatePolicyRequest`. */
export function checkValidatePolicyRequest(value: ValidatePolicyRequest, problems: FieldProblems): void {
  if (value.policy === undefined) problems.add("policy", "is required");
}

/** Adds what breaks the contract's rules in `ApplyPolicyRequest`. */
export function checkApplyPolicyRequest(value: ApplyPolicyRequest, problems: FieldProblems): void {
  if (value.policy === undefined) problems.add("policy", "is required");
  if (!(Number(value.expectedNumber) >= 0 && Number(value.expectedNumber) <= 9007199254740991)) problems.range(Number(value.expectedNumber), 0, 9007199254740991, "expected_number");
  if (value.reason !== "") problems.text(value.reason, 1024, "reason");
  if (value.changeTicket !== "") problems.text(value.changeTicket, 128, "change_ticket");
}

/** Adds what breaks the contract's rules in `RollbackPolicyRequest`. */
export function checkRollbackPolicyRequest(value: RollbackPolicyRequest, problems: FieldProblems): void {
  if (!(Number(value.toNumber) >= 0 && Number(value.toNumber) <= 9007199254740991)) problems.range(Number(value.toNumber), 0, 9007199254740991, "to_number");
  if (value.reason !== "") problems.text(value.reason, 1024, "reason");
  if (!(Number(value.expectedNumber) >= 0 && Number(value.expectedNumber) <= 9007199254740991)) problems.range(Number(value.expectedNumber), 0, 9007199254740991, "expected_number");
  if (value.changeTicket !== "") problems.text(value.changeTicket, 128, "change_ticket");
}

/** Adds what breaks the contract's rules in `PolicyHistoryRequest`. */
export function checkPolicyHistoryRequest(value: PolicyHistoryRequest, problems: FieldProblems): void {
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
}

/** Adds what breaks the contract's rules in `PolicyPlace`. */
export function checkPolicyPlace(value: PolicyPlace, problems: FieldProblems): void {
  if (!(Number(value.number) >= 1 && Number(value.number) <= 9007199254740991)) problems.range(Number(value.number), 1, 9007199254740991, "number");
  if (!(Number(value.hlc) >= 0 && Number(value.hlc) <= 9007199254740991)) problems.range(Number(value.hlc), 0, 9007199254740991, "hlc");
  if (value.nodeId !== "") problems.text(value.nodeId, 64, "node_id");
  if (value.checksum !== "") problems.text(value.checksum, 64, "checksum");
  problems.pattern(value.checksum, { pattern: /^([0-9a-f]{64})?$/u, rule: "64 hexadecimal digits in lower case" }, "checksum");
}

function checkWatchPolicyRequest_known(many: readonly PolicyPlace[], problems: FieldProblems): void {
  problems.items(many.length, 100, "known");
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkPolicyPlace(item, problems);
    if (problems.count !== before) problems.under(before, `known[${i}].`);
  }
}

function checkWatchPolicyRequest_via(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 4, "via");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxIdLength, "");
    if (problems.count !== before) problems.under(before, `via[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `WatchPolicyRequest`. */
export function checkWatchPolicyRequest(value: WatchPolicyRequest, problems: FieldProblems): void {
  if (value.known.length > 0) checkWatchPolicyRequest_known(value.known, problems);
  if (value.via.length > 0) checkWatchPolicyRequest_via(value.via, problems);
}

/** Adds what breaks the contract's rules in `Viewer`. */
export function checkViewer(value: Viewer, problems: FieldProblems): void {
  if (value.clusterId !== "") problems.name(value.clusterId, problems.bounds.maxIdLength, "cluster_id");
  if (value.tenantId !== "") problems.name(value.tenantId, problems.bounds.maxIdLength, "tenant_id");
}

/** Adds what breaks the contract's rules in `ExplainRequest`. */
export function checkExplainRequest(value: ExplainRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.action === 0) problems.add("action", "must be one of REGISTER, INGEST, QUERY, WATCH, EXPORT_SUMMARY, ADMIN");
  problems.known(value.action, 6, "an act", "action");
  if (value.viewer !== undefined) {
    const before = problems.count;
    checkViewer(value.viewer, problems);
    if (problems.count !== before) problems.under(before, "viewer.");
  }
  problems.known(value.scope, 4, "a scope", "scope");
}

/** Adds what breaks the contract's rules in `PolicyAuditRequest`. */
export function checkPolicyAuditRequest(value: PolicyAuditRequest, problems: FieldProblems): void {
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
  if (value.principal !== "") problems.text(value.principal, 256, "principal");
}

/** Adds what breaks the contract's rules in `AccessAuditRequest`. */
export function checkAccessAuditRequest(value: AccessAuditRequest, problems: FieldProblems): void {
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
  if (value.principal !== "") problems.text(value.principal, 256, "principal");
  if (value.namespace !== "") problems.text(value.namespace, 256, "namespace");
  if (value.reason !== "") problems.text(value.reason, 256, "reason");
}

/** Adds what breaks the contract's rules in `VerifyAuditRequest`. */
export function checkVerifyAuditRequest(value: VerifyAuditRequest, problems: FieldProblems): void {
  if (!(Number(value.knownNumber) >= 0 && Number(value.knownNumber) <= 9007199254740991)) problems.range(Number(value.knownNumber), 0, 9007199254740991, "known_number");
  problems.pattern(value.knownHash, { pattern: /^([0-9a-f]{64})?$/u, rule: "64 hexadecimal digits in lower case" }, "known_hash");
}

function checkAuditServiceListRequest_outcomes(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 3, "outcomes");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of ALLOWED, DENIED, NOTED");
    problems.known(item, 3, "an audit outcome", "");
    if (problems.count !== before) problems.under(before, `outcomes[${i}]`);
  }
}

function checkAuditServiceListRequest_kinds(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 3, "kinds");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of ACCESS, POLICY, ADMIN");
    problems.known(item, 3, "an audit kind", "");
    if (problems.count !== before) problems.under(before, `kinds[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `AuditServiceListRequest`. */
export function checkAuditServiceListRequest(value: AuditServiceListRequest, problems: FieldProblems): void {
  if (value.entry !== "") problems.text(value.entry, 1500, "entry");
  problems.pattern(value.entry, { pattern: /^([^/:]+\/.+)?$/u, rule: "an entry, written namespace/name/instance, or a service, written namespace/name" }, "entry");
  if (value.lease !== "") problems.text(value.lease, 128, "lease");
  if (value.node !== "") problems.text(value.node, 128, "node");
  if (value.principal !== "") problems.text(value.principal, 256, "principal");
  if (value.tenant !== "") problems.text(value.tenant, 128, "tenant");
  if (value.namespace !== "") problems.text(value.namespace, 256, "namespace");
  if (value.action !== "") problems.text(value.action, 64, "action");
  if (value.outcomes.length > 0) checkAuditServiceListRequest_outcomes(value.outcomes, problems);
  if (value.reason !== "") problems.text(value.reason, 64, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
  if (value.text !== "") problems.text(value.text, 128, "text");
  if (value.kinds.length > 0) checkAuditServiceListRequest_kinds(value.kinds, problems);
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
}

function checkAuditServiceWatchRequest_outcomes(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 3, "outcomes");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of ALLOWED, DENIED, NOTED");
    problems.known(item, 3, "an audit outcome", "");
    if (problems.count !== before) problems.under(before, `outcomes[${i}]`);
  }
}

function checkAuditServiceWatchRequest_kinds(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 3, "kinds");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of ACCESS, POLICY, ADMIN");
    problems.known(item, 3, "an audit kind", "");
    if (problems.count !== before) problems.under(before, `kinds[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `AuditServiceWatchRequest`. */
export function checkAuditServiceWatchRequest(value: AuditServiceWatchRequest, problems: FieldProblems): void {
  if (value.entry !== "") problems.text(value.entry, 1500, "entry");
  problems.pattern(value.entry, { pattern: /^([^/:]+\/.+)?$/u, rule: "an entry, written namespace/name/instance, or a service, written namespace/name" }, "entry");
  if (value.lease !== "") problems.text(value.lease, 128, "lease");
  if (value.node !== "") problems.text(value.node, 128, "node");
  if (value.principal !== "") problems.text(value.principal, 256, "principal");
  if (value.tenant !== "") problems.text(value.tenant, 128, "tenant");
  if (value.namespace !== "") problems.text(value.namespace, 256, "namespace");
  if (value.action !== "") problems.text(value.action, 64, "action");
  if (value.outcomes.length > 0) checkAuditServiceWatchRequest_outcomes(value.outcomes, problems);
  if (value.reason !== "") problems.text(value.reason, 64, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
  if (value.text !== "") problems.text(value.text, 128, "text");
  if (value.kinds.length > 0) checkAuditServiceWatchRequest_kinds(value.kinds, problems);
  if (!(Number(value.afterNumber) >= 0 && Number(value.afterNumber) <= 9007199254740991)) problems.range(Number(value.afterNumber), 0, 9007199254740991, "after_number");
  problems.pattern(value.afterHash, { pattern: /^([0-9a-f]{64})?$/u, rule: "64 hexadecimal digits in lower case" }, "after_hash");
}

function checkBootstrapServiceCreateTokenRequest_dns_names(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 16, "dns_names");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 253, "");
    problems.pattern(item, { pattern: /^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/u, rule: "a DNS name, which may start with `*.`" }, "");
    if (problems.count !== before) problems.under(before, `dns_names[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `BootstrapServiceCreateTokenRequest`. */
export function checkBootstrapServiceCreateTokenRequest(value: BootstrapServiceCreateTokenRequest, problems: FieldProblems): void {
  problems.known(value.role, 3, "an identity role", "role");
  if (value.name !== "") problems.alias(value.name, 64, "name");
  if (value.dnsNames.length > 0) checkBootstrapServiceCreateTokenRequest_dns_names(value.dnsNames, problems);
  if (!(value.uses >= 0 && value.uses <= 100000)) problems.range(value.uses, 0, 100000, "uses");
  if (value.ttl !== undefined) {
    problems.duration(value.ttl, 2592000000, "ttl", 1000);
  }
}

/** Adds what breaks the contract's rules in `BootstrapServiceListTokensRequest`. */
export function checkBootstrapServiceListTokensRequest(value: BootstrapServiceListTokensRequest, problems: FieldProblems): void {
  if (!(value.limit >= 0 && value.limit <= 10000)) problems.range(value.limit, 0, 10000, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 1024, "page_token");
}

/** Adds what breaks the contract's rules in `BootstrapServiceRevokeTokenRequest`. */
export function checkBootstrapServiceRevokeTokenRequest(value: BootstrapServiceRevokeTokenRequest, problems: FieldProblems): void {
  problems.text(value.tokenId, 128, "token_id");
  problems.pattern(value.tokenId, { pattern: /^[A-Za-z0-9._-]+:[0-9a-f]+$/u, rule: "the id of a join token, <cluster>:<hexadecimal digits>" }, "token_id");
}

function checkBootstrapServiceIssueRequest_dns_names(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 16, "dns_names");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 253, "");
    problems.pattern(item, { pattern: /^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/u, rule: "a DNS name, which may start with `*.`" }, "");
    if (problems.count !== before) problems.under(before, `dns_names[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `BootstrapServiceIssueRequest`. */
export function checkBootstrapServiceIssueRequest(value: BootstrapServiceIssueRequest, problems: FieldProblems): void {
  if (value.role === 0) problems.add("role", "must be one of NODE, RESOLVER, CLIENT");
  problems.known(value.role, 3, "an identity role", "role");
  problems.alias(value.name, 64, "name");
  if (value.publicKey.length > 256) problems.add("public_key", "has more than 256 bytes");
  if (value.dnsNames.length > 0) checkBootstrapServiceIssueRequest_dns_names(value.dnsNames, problems);
  if (value.ttl !== undefined) {
    problems.duration(value.ttl, 7776000000, "ttl", 60000);
  }
}

/** Adds what breaks the contract's rules in `BootstrapServiceRevokeRequest`. */
export function checkBootstrapServiceRevokeRequest(value: BootstrapServiceRevokeRequest, problems: FieldProblems): void {
  problems.known(value.role, 3, "an identity role", "role");
  problems.alias(value.name, 64, "name");
  problems.text(value.reason, 1024, "reason");
}

/** Adds what breaks the contract's rules in `BootstrapServiceListIdentitiesRequest`. */
export function checkBootstrapServiceListIdentitiesRequest(value: BootstrapServiceListIdentitiesRequest, problems: FieldProblems): void {
  problems.known(value.role, 3, "an identity role", "role");
  if (!(value.limit >= 0 && value.limit <= 10000)) problems.range(value.limit, 0, 10000, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 1024, "page_token");
}

/** Adds what breaks the contract's rules in `BootstrapServicePublishRootRequest`. */
export function checkBootstrapServicePublishRootRequest(value: BootstrapServicePublishRootRequest, problems: FieldProblems): void {
  problems.text(value.certificate, 16384, "certificate");
}

/** Adds what breaks the contract's rules in `BootstrapServiceDropRootRequest`. */
export function checkBootstrapServiceDropRootRequest(value: BootstrapServiceDropRootRequest, problems: FieldProblems): void {
  problems.alias(value.rootId, 16, "root_id");
}

function checkAttestationIssuer_algorithms(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 10, "algorithms");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 5, "");
    problems.pattern(item, { pattern: /^([REP]S(256|384|512)|EdDSA)$/u, rule: "RS, PS or ES with 256, 384 or 512, or EdDSA" }, "");
    if (problems.count !== before) problems.under(before, `algorithms[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `AttestationIssuer`. */
export function checkAttestationIssuer(value: AttestationIssuer, problems: FieldProblems): void {
  problems.alias(value.name, 64, "name");
  problems.text(value.issuer, 512, "issuer");
  problems.pattern(value.issuer, { pattern: /^[!-~]+$/u, rule: "printable ASCII without spaces" }, "issuer");
  problems.text(value.audience, 512, "audience");
  problems.pattern(value.audience, { pattern: /^[!-~]+$/u, rule: "printable ASCII without spaces" }, "audience");
  problems.text(value.jwks, 32768, "jwks");
  if (value.algorithms.length === 0) problems.add("algorithms", "is empty, but must have 1 to 10 items");
  else checkAttestationIssuer_algorithms(value.algorithms, problems);
}

function checkRequiredClaim_values(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "values");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 512, "");
    if (problems.count !== before) problems.under(before, `values[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `RequiredClaim`. */
export function checkRequiredClaim(value: RequiredClaim, problems: FieldProblems): void {
  problems.text(value.path, 256, "path");
  if (value.values.length === 0) problems.add("values", "is empty, but must have 1 to 64 items");
  else checkRequiredClaim_values(value.values, problems);
}

function checkRequiredAttestation_claims(many: readonly RequiredClaim[], problems: FieldProblems): void {
  problems.items(many.length, 32, "claims");
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkRequiredClaim(item, problems);
    if (problems.count !== before) problems.under(before, `claims[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `RequiredAttestation`. */
export function checkRequiredAttestation(value: RequiredAttestation, problems: FieldProblems): void {
  problems.alias(value.issuer, 64, "issuer");
  if (value.claims.length === 0) problems.add("claims", "is empty, but must have 1 to 32 items");
  else checkRequiredAttestation_claims(value.claims, problems);
}

function checkJoinRule_roles(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 3, "roles");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of NODE, RESOLVER, CLIENT");
    problems.known(item, 3, "an identity role", "");
    if (problems.count !== before) problems.under(before, `roles[${i}]`);
  }
}

function checkJoinRule_clusters(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "clusters");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 64, "");
    problems.pattern(item, { pattern: /^[A-Za-z0-9._-]*[*]?[A-Za-z0-9._-]*$/u, rule: "characters from A-Z a-z 0-9 . _ - and at most one *" }, "");
    if (problems.count !== before) problems.under(before, `clusters[${i}]`);
  }
}

function checkJoinRule_names(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 256, "names");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 64, "");
    problems.pattern(item, { pattern: /^[A-Za-z0-9._-]*[*]?[A-Za-z0-9._-]*$/u, rule: "characters from A-Z a-z 0-9 . _ - and at most one *" }, "");
    if (problems.count !== before) problems.under(before, `names[${i}]`);
  }
}

function checkJoinRule_dns_names(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 16, "dns_names");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 253, "");
    problems.pattern(item, { pattern: /^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/u, rule: "a DNS name, which may start with `*.`" }, "");
    if (problems.count !== before) problems.under(before, `dns_names[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `JoinRule`. */
export function checkJoinRule(value: JoinRule, problems: FieldProblems): void {
  if (value.effect === 0) problems.add("effect", "must be one of ALLOW, DENY");
  problems.known(value.effect, 2, "a join effect", "effect");
  if (value.roles.length > 0) checkJoinRule_roles(value.roles, problems);
  if (value.clusters.length > 0) checkJoinRule_clusters(value.clusters, problems);
  if (value.names.length > 0) checkJoinRule_names(value.names, problems);
  if (value.attested !== undefined) {
    const before = problems.count;
    checkRequiredAttestation(value.attested, problems);
    if (problems.count !== before) problems.under(before, "attested.");
  }
  problems.known(value.token, 2, "a join token use", "token");
  if (value.dnsNames.length > 0) checkJoinRule_dns_names(value.dnsNames, problems);
}

function checkJoinPolicy_issuers(many: readonly AttestationIssuer[], problems: FieldProblems): void {
  problems.items(many.length, 16, "issuers");
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkAttestationIssuer(item, problems);
    if (problems.count !== before) problems.under(before, `issuers[${i}].`);
  }
}

function checkJoinPolicy_rules(many: readonly JoinRule[], problems: FieldProblems): void {
  problems.items(many.length, 256, "rules");
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkJoinRule(item, problems);
    if (problems.count !== before) problems.under(before, `rules[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `JoinPolicy`. */
export function checkJoinPolicy(value: JoinPolicy, problems: FieldProblems): void {
  if (value.issuers.length > 0) checkJoinPolicy_issuers(value.issuers, problems);
  if (value.rules.length > 0) checkJoinPolicy_rules(value.rules, problems);
}

/** Adds what breaks the contract's rules in `BootstrapServiceApplyJoinPolicyRequest`. */
export function checkBootstrapServiceApplyJoinPolicyRequest(value: BootstrapServiceApplyJoinPolicyRequest, problems: FieldProblems): void {
  if (value.policy === undefined) problems.add("policy", "is required");
  if (value.policy !== undefined) {
    const before = problems.count;
    checkJoinPolicy(value.policy, problems);
    if (problems.count !== before) problems.under(before, "policy.");
  }
  if (!(value.expectedVersion >= 0 && value.expectedVersion <= 4294967295)) problems.range(value.expectedVersion, 0, 4294967295, "expected_version");
}

/** Adds what breaks the contract's rules in `ConfigServiceValidateRequest`. */
export function checkConfigServiceValidateRequest(value: ConfigServiceValidateRequest, problems: FieldProblems): void {
  if (value.text !== "") problems.text(value.text, 262144, "text");
  problems.known(value.format, 2, "a config format", "format");
}

function checkCredentialServiceCreateRequest_roles(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "roles");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 256, "");
    if (problems.count !== before) problems.under(before, `roles[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `CredentialServiceCreateRequest`. */
export function checkCredentialServiceCreateRequest(value: CredentialServiceCreateRequest, problems: FieldProblems): void {
  problems.text(value.principal, 256, "principal");
  problems.pattern(value.principal, { pattern: /^[!-~]+$/u, rule: "printable ASCII without spaces" }, "principal");
  if (value.tenant !== "") problems.name(value.tenant, problems.bounds.maxIdLength, "tenant");
  if (value.roles.length > 0) checkCredentialServiceCreateRequest_roles(value.roles, problems);
  if (value.ttl !== undefined) {
    problems.duration(value.ttl, 31536000000, "ttl", 1000);
  }
}

/** Adds what breaks the contract's rules in `CredentialServiceListRequest`. */
export function checkCredentialServiceListRequest(value: CredentialServiceListRequest, problems: FieldProblems): void {
  if (!(value.limit >= 0 && value.limit <= 10000)) problems.range(value.limit, 0, 10000, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 1024, "page_token");
}

/** Adds what breaks the contract's rules in `CredentialServiceRevokeRequest`. */
export function checkCredentialServiceRevokeRequest(value: CredentialServiceRevokeRequest, problems: FieldProblems): void {
  problems.alias(value.accessor, 64, "accessor");
  if (value.reason !== "") problems.text(value.reason, 1024, "reason");
}

/** Adds what breaks the contract's rules in `JoinServiceJoinRequest`. */
export function checkJoinServiceJoinRequest(value: JoinServiceJoinRequest, problems: FieldProblems): void {
  if (value.token !== "") problems.text(value.token, 512, "token");
  if (value.name !== "") problems.alias(value.name, 64, "name");
  if (value.publicKey.length > 256) problems.add("public_key", "has more than 256 bytes");
  if (value.signature.length > 256) problems.add("signature", "has more than 256 bytes");
  if (value.attestation !== "") problems.text(value.attestation, 16384, "attestation");
}

/** Adds what breaks the contract's rules in `JoinServiceRenewRequest`. */
export function checkJoinServiceRenewRequest(value: JoinServiceRenewRequest, problems: FieldProblems): void {
  if (value.role === 0) problems.add("role", "must be one of NODE, RESOLVER, CLIENT");
  problems.known(value.role, 3, "an identity role", "role");
  problems.alias(value.name, 64, "name");
  if (value.publicKey.length > 256) problems.add("public_key", "has more than 256 bytes");
  if (value.signature.length > 256) problems.add("signature", "has more than 256 bytes");
  if (value.newPublicKey.length > 256) problems.add("new_public_key", "has more than 256 bytes");
  if (value.newSignature.length > 256) problems.add("new_signature", "has more than 256 bytes");
}

/** Adds what breaks the contract's rules in `LeadershipServiceListRequest`. */
export function checkLeadershipServiceListRequest(value: LeadershipServiceListRequest, problems: FieldProblems): void {
  if (value.scopePrefix !== "") problems.text(value.scopePrefix, 376, "scope_prefix");
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
}

function checkLeadershipServiceSubscribeRequest_scopes(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 100, "scopes");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 376, "");
    if (problems.count !== before) problems.under(before, `scopes[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `LeadershipServiceSubscribeRequest`. */
export function checkLeadershipServiceSubscribeRequest(value: LeadershipServiceSubscribeRequest, problems: FieldProblems): void {
  if (value.scopes.length > 0) checkLeadershipServiceSubscribeRequest_scopes(value.scopes, problems);
}

/** Adds what breaks the contract's rules in `LeadershipServiceResignRequest`. */
export function checkLeadershipServiceResignRequest(value: LeadershipServiceResignRequest, problems: FieldProblems): void {
  problems.text(value.scope, 376, "scope");
  problems.text(value.reason, 256, "reason");
}

/** Adds what breaks the contract's rules in `LeadershipServiceRaiseStoreEpochRequest`. */
export function checkLeadershipServiceRaiseStoreEpochRequest(value: LeadershipServiceRaiseStoreEpochRequest, problems: FieldProblems): void {
  problems.text(value.reason, 256, "reason");
}

/** Adds what breaks the contract's rules in `LeadershipServiceCampaignRequest`. */
export function checkLeadershipServiceCampaignRequest(value: LeadershipServiceCampaignRequest, problems: FieldProblems): void {
  if (value.scope !== "") problems.text(value.scope, 376, "scope");
  if (value.holderId !== "") problems.name(value.holderId, 256, "holder_id");
}

function checkPeerServiceListRequest_statuses(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 4, "statuses");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of ALIVE, SUSPECT, LEFT, DEAD");
    problems.known(item, 4, "a peer status", "");
    if (problems.count !== before) problems.under(before, `statuses[${i}]`);
  }
}

function checkPeerServiceListRequest_health(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 3, "health");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of HEALTHY, DEGRADED, UNHEALTHY");
    problems.known(item, 3, "a peer health", "");
    if (problems.count !== before) problems.under(before, `health[${i}]`);
  }
}

function checkPeerServiceListRequest_roles(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 16, "roles");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxIdLength, "");
    if (problems.count !== before) problems.under(before, `roles[${i}]`);
  }
}

function checkPeerServiceListRequest_desired(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 3, "desired");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of ACTIVE, CORDONED, DRAINED");
    problems.known(item, 3, "a peer desired", "");
    if (problems.count !== before) problems.under(before, `desired[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `PeerServiceListRequest`. */
export function checkPeerServiceListRequest(value: PeerServiceListRequest, problems: FieldProblems): void {
  if (value.statuses.length > 0) checkPeerServiceListRequest_statuses(value.statuses, problems);
  if (value.clusterId !== "") problems.name(value.clusterId, problems.bounds.maxIdLength, "cluster_id");
  if (value.region !== "") problems.name(value.region, problems.bounds.maxIdLength, "region");
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
  if (value.health.length > 0) checkPeerServiceListRequest_health(value.health, problems);
  if (value.roles.length > 0) checkPeerServiceListRequest_roles(value.roles, problems);
  if (value.zone !== "") problems.name(value.zone, problems.bounds.maxIdLength, "zone");
  if (value.version !== "") problems.text(value.version, 64, "version");
  if (value.labelSelector !== "") problems.text(value.labelSelector, 1024, "label_selector");
  if (value.desired.length > 0) checkPeerServiceListRequest_desired(value.desired, problems);
  problems.known(value.sort, 6, "a peer sort", "sort");
}

function checkPeerServiceWatchRequest_statuses(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 4, "statuses");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of ALIVE, SUSPECT, LEFT, DEAD");
    problems.known(item, 4, "a peer status", "");
    if (problems.count !== before) problems.under(before, `statuses[${i}]`);
  }
}

function checkPeerServiceWatchRequest_health(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 3, "health");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of HEALTHY, DEGRADED, UNHEALTHY");
    problems.known(item, 3, "a peer health", "");
    if (problems.count !== before) problems.under(before, `health[${i}]`);
  }
}

function checkPeerServiceWatchRequest_roles(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 16, "roles");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxIdLength, "");
    if (problems.count !== before) problems.under(before, `roles[${i}]`);
  }
}

function checkPeerServiceWatchRequest_desired(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 3, "desired");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of ACTIVE, CORDONED, DRAINED");
    problems.known(item, 3, "a peer desired", "");
    if (problems.count !== before) problems.under(before, `desired[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `PeerServiceWatchRequest`. */
export function checkPeerServiceWatchRequest(value: PeerServiceWatchRequest, problems: FieldProblems): void {
  if (value.clusterId !== "") problems.name(value.clusterId, problems.bounds.maxIdLength, "cluster_id");
  if (value.region !== "") problems.name(value.region, problems.bounds.maxIdLength, "region");
  if (value.statuses.length > 0) checkPeerServiceWatchRequest_statuses(value.statuses, problems);
  if (value.health.length > 0) checkPeerServiceWatchRequest_health(value.health, problems);
  if (value.roles.length > 0) checkPeerServiceWatchRequest_roles(value.roles, problems);
  if (value.zone !== "") problems.name(value.zone, problems.bounds.maxIdLength, "zone");
  if (value.version !== "") problems.text(value.version, 64, "version");
  if (value.labelSelector !== "") problems.text(value.labelSelector, 1024, "label_selector");
  if (value.desired.length > 0) checkPeerServiceWatchRequest_desired(value.desired, problems);
  if (value.cursor !== "") problems.text(value.cursor, 65536, "cursor");
  if (value.bookmarkInterval !== undefined) {
    problems.duration(value.bookmarkInterval, 10000, "bookmark_interval", 1000);
  }
}

/** Adds what breaks the contract's rules in `PeerServiceGetRequest`. */
export function checkPeerServiceGetRequest(value: PeerServiceGetRequest, problems: FieldProblems): void {
  problems.name(value.nodeId, problems.bounds.maxIdLength, "node_id");
}

/** Adds what breaks the contract's rules in `PeerServiceLagRequest`. */
export function checkPeerServiceLagRequest(value: PeerServiceLagRequest, problems: FieldProblems): void {
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
}

/** Adds what breaks the contract's rules in `PeerServiceKeysRequest`. */
export function checkPeerServiceKeysRequest(value: PeerServiceKeysRequest, problems: FieldProblems): void {
  if (value.clusterId !== "") problems.name(value.clusterId, problems.bounds.maxIdLength, "cluster_id");
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
}

/** Adds what breaks the contract's rules in `PeerServiceCordonRequest`. */
export function checkPeerServiceCordonRequest(value: PeerServiceCordonRequest, problems: FieldProblems): void {
  problems.name(value.nodeId, problems.bounds.maxIdLength, "node_id");
  problems.text(value.reason, 256, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
  if (value.etag !== "") problems.text(value.etag, 32, "etag");
  if (value.requestId !== "") problems.text(value.requestId, 64, "request_id");
}

/** Adds what breaks the contract's rules in `PeerServiceUncordonRequest`. */
export function checkPeerServiceUncordonRequest(value: PeerServiceUncordonRequest, problems: FieldProblems): void {
  problems.name(value.nodeId, problems.bounds.maxIdLength, "node_id");
  problems.text(value.reason, 256, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
  if (value.etag !== "") problems.text(value.etag, 32, "etag");
  if (value.requestId !== "") problems.text(value.requestId, 64, "request_id");
}

/** Adds what breaks the contract's rules in `PeerServiceDrainRequest`. */
export function checkPeerServiceDrainRequest(value: PeerServiceDrainRequest, problems: FieldProblems): void {
  problems.name(value.nodeId, problems.bounds.maxIdLength, "node_id");
  problems.text(value.reason, 256, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
  if (value.etag !== "") problems.text(value.etag, 32, "etag");
  if (value.requestId !== "") problems.text(value.requestId, 64, "request_id");
  if (value.deadline !== undefined) {
    problems.duration(value.deadline, 86400000, "deadline", 10000);
  }
}

function checkPeerServiceSetLabelsRequest_labels(many: Readonly<Record<string, string>>, problems: FieldProblems): void {
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

function checkPeerServiceSetLabelsRequest_remove(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "remove");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 63, "");
    if (problems.count !== before) problems.under(before, `remove[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `PeerServiceSetLabelsRequest`. */
export function checkPeerServiceSetLabelsRequest(value: PeerServiceSetLabelsRequest, problems: FieldProblems): void {
  problems.name(value.nodeId, problems.bounds.maxIdLength, "node_id");
  problems.text(value.reason, 256, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
  if (value.etag !== "") problems.text(value.etag, 32, "etag");
  if (value.requestId !== "") problems.text(value.requestId, 64, "request_id");
  checkPeerServiceSetLabelsRequest_labels(value.labels, problems);
  if (value.remove.length > 0) checkPeerServiceSetLabelsRequest_remove(value.remove, problems);
}

/** Adds what breaks the contract's rules in `PeerServiceForgetRequest`. */
export function checkPeerServiceForgetRequest(value: PeerServiceForgetRequest, problems: FieldProblems): void {
  problems.name(value.nodeId, problems.bounds.maxIdLength, "node_id");
  problems.text(value.reason, 256, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
  if (value.etag !== "") problems.text(value.etag, 32, "etag");
  if (value.requestId !== "") problems.text(value.requestId, 64, "request_id");
}

function checkRebalanceServiceListPlansRequest_states(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 8, "states");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of STEADY, INVESTIGATING, REBALANCE_PENDING, DRAINING, REBALANCING, COMPLETED, FAILED, CANCELLED");
    problems.known(item, 8, "a rebalance state", "");
    if (problems.count !== before) problems.under(before, `states[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `RebalanceServiceListPlansRequest`. */
export function checkRebalanceServiceListPlansRequest(value: RebalanceServiceListPlansRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.states.length > 0) checkRebalanceServiceListPlansRequest_states(value.states, problems);
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
}

/** Adds what breaks the contract's rules in `RebalanceServiceProposeRequest`. */
export function checkRebalanceServiceProposeRequest(value: RebalanceServiceProposeRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.reason !== "") problems.text(value.reason, 256, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
}

/** Adds what breaks the contract's rules in `RebalanceServiceApproveRequest`. */
export function checkRebalanceServiceApproveRequest(value: RebalanceServiceApproveRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  problems.text(value.planId, 300, "plan_id");
  problems.text(value.checksum, 16, "checksum");
  if (value.reason !== "") problems.text(value.reason, 256, "reason");
}

/** Adds what breaks the contract's rules in `RebalanceServiceCancelRequest`. */
export function checkRebalanceServiceCancelRequest(value: RebalanceServiceCancelRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  problems.text(value.planId, 300, "plan_id");
  if (value.reason !== "") problems.text(value.reason, 256, "reason");
}

/** Adds what breaks the contract's rules in `RebalanceServiceFreezeRequest`. */
export function checkRebalanceServiceFreezeRequest(value: RebalanceServiceFreezeRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.duration === undefined) problems.add("duration", "is required");
  if (value.duration !== undefined) {
    problems.duration(value.duration, 604800000, "duration");
  }
  if (value.reason !== "") problems.text(value.reason, 256, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
}

/** Adds what breaks the contract's rules in `RebalanceServiceWatchRequest`. */
export function checkRebalanceServiceWatchRequest(value: RebalanceServiceWatchRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
}

/** Adds what breaks the contract's rules in `OverloadThresholds`. */
export function checkOverloadThresholds(value: OverloadThresholds, problems: FieldProblems): void {
  if (value.latency !== undefined) {
    problems.duration(value.latency, 3600000, "latency");
  }
  if (!(value.errorRatio >= 0 && value.errorRatio <= 1)) problems.range(value.errorRatio, 0, 1, "error_ratio");
  if (value.duration !== undefined) {
    problems.duration(value.duration, 3600000, "duration", 1000);
  }
}

/** Adds what breaks the contract's rules in `ShardSettings`. */
export function checkShardSettings(value: ShardSettings, problems: FieldProblems): void {
  if (!(value.count >= 1 && value.count <= 10000)) problems.range(value.count, 1, 10000, "count");
  problems.name(value.service, problems.bounds.maxNameLength, "service");
  problems.known(value.strategy, 3, "a shard strategy", "strategy");
  problems.known(value.approval, 3, "a shard approval", "approval");
  problems.known(value.onStoreLoss, 2, "a store loss behavior", "on_store_loss");
  if (!(value.maxParallelMoves >= 0 && value.maxParallelMoves <= 1000)) problems.range(value.maxParallelMoves, 0, 1000, "max_parallel_moves");
  if (value.cooldown !== undefined) {
    problems.duration(value.cooldown, 86400000, "cooldown");
  }
  if (value.prepareTimeout !== undefined) {
    problems.duration(value.prepareTimeout, 3600000, "prepare_timeout");
  }
  if (value.drainTimeout !== undefined) {
    problems.duration(value.drainTimeout, 3600000, "drain_timeout");
  }
  if (value.overload !== undefined) {
    const before = problems.count;
    checkOverloadThresholds(value.overload, problems);
    if (problems.count !== before) problems.under(before, "overload.");
  }
}

/** Adds what breaks the contract's rules in `ShardServiceApplyRequest`. */
export function checkShardServiceApplyRequest(value: ShardServiceApplyRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.settings === undefined) problems.add("settings", "is required");
  if (value.settings !== undefined) {
    const before = problems.count;
    checkShardSettings(value.settings, problems);
    if (problems.count !== before) problems.under(before, "settings.");
  }
  if (value.reason !== "") problems.text(value.reason, 256, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
}

/** Adds what breaks the contract's rules in `ShardServiceSetShardRequest`. */
export function checkShardServiceSetShardRequest(value: ShardServiceSetShardRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (!(value.id >= 0 && value.id <= 4294967295)) problems.range(value.id, 0, 4294967295, "id");
  if (value.reason !== "") problems.text(value.reason, 256, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
  switch (value.change.case) {
    case "status": {
      if (value.change.value === 0) problems.add("status", "must be one of ACTIVE, PAUSED, DISABLED");
      if (value.change.value === 2) problems.add("status", "must be one of ACTIVE, PAUSED, DISABLED, got DRAINING");
      if (value.change.value === 5) problems.add("status", "must be one of ACTIVE, PAUSED, DISABLED, got UNOWNED");
      problems.known(value.change.value, 5, "a shard status", "status");
      return;
    }
    case "weight": {
      if (!(value.change.value >= 0.001 && value.change.value <= 1000)) problems.range(value.change.value, 0.001, 1000, "weight");
      return;
    }
    case "hint": {
      if (value.change.value !== "") problems.text(value.change.value, 129, "hint");
      problems.pattern(value.change.value, { pattern: /^([A-Za-z0-9._:@+-]{1,64}(\/[A-Za-z0-9._:@+-]{1,64})?)?$/u, rule: "<region>, <region>/<zone> or empty" }, "hint");
      return;
    }
    case undefined:
  }
}

/** Adds what breaks the contract's rules in `ShardServiceDeleteRequest`. */
export function checkShardServiceDeleteRequest(value: ShardServiceDeleteRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.reason !== "") problems.text(value.reason, 256, "reason");
  if (value.ticket !== "") problems.text(value.ticket, 128, "ticket");
}

function checkShardServiceListRequest_statuses(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 5, "statuses");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of ACTIVE, DRAINING, PAUSED, DISABLED, UNOWNED");
    problems.known(item, 5, "a shard status", "");
    if (problems.count !== before) problems.under(before, `statuses[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `ShardServiceListRequest`. */
export function checkShardServiceListRequest(value: ShardServiceListRequest, problems: FieldProblems): void {
  if (value.namespace !== "") problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.owner !== "") problems.text(value.owner, 128, "owner");
  if (value.statuses.length > 0) checkShardServiceListRequest_statuses(value.statuses, problems);
  if (value.text !== "") problems.text(value.text, 128, "text");
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
}

/** Adds what breaks the contract's rules in `ShardServiceGetRequest`. */
export function checkShardServiceGetRequest(value: ShardServiceGetRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  switch (value.shard.case) {
    case "id": {
      if (!(value.shard.value >= 0 && value.shard.value <= 4294967295)) problems.range(value.shard.value, 0, 4294967295, "id");
      return;
    }
    case "key": {
      problems.bytes(value.shard.value, 1024, "key");
      return;
    }
    case undefined:
  }
}

/** Adds what breaks the contract's rules in `ShardServiceWatchRequest`. */
export function checkShardServiceWatchRequest(value: ShardServiceWatchRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
}

/** Adds what breaks the contract's rules in `ShardServiceDiffRequest`. */
export function checkShardServiceDiffRequest(value: ShardServiceDiffRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
}

/** Adds what breaks the contract's rules in `ShardServiceHistoryRequest`. */
export function checkShardServiceHistoryRequest(value: ShardServiceHistoryRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
}

/** Adds what breaks the contract's rules in `SimulatedOwner`. */
export function checkSimulatedOwner(value: SimulatedOwner, problems: FieldProblems): void {
  problems.text(value.instance, 128, "instance");
  if (!(value.weight >= 0 && value.weight <= 1000)) problems.range(value.weight, 0, 1000, "weight");
  if (value.zone !== "") problems.text(value.zone, 64, "zone");
  if (value.region !== "") problems.text(value.region, 64, "region");
  if (!(value.slots >= 0 && value.slots <= 4294967295)) problems.range(value.slots, 0, 4294967295, "slots");
}

function checkShardServiceSimulateRequest_owners(many: readonly SimulatedOwner[], problems: FieldProblems): void {
  problems.items(many.length, 1000, "owners");
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkSimulatedOwner(item, problems);
    if (problems.count !== before) problems.under(before, `owners[${i}].`);
  }
}

function checkShardServiceSimulateRequest_removed_owners(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 1000, "removed_owners");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 128, "");
    if (problems.count !== before) problems.under(before, `removed_owners[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `ShardServiceSimulateRequest`. */
export function checkShardServiceSimulateRequest(value: ShardServiceSimulateRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  problems.known(value.strategy, 3, "a shard strategy", "strategy");
  if (value.owners.length > 0) checkShardServiceSimulateRequest_owners(value.owners, problems);
  if (value.removedOwners.length > 0) checkShardServiceSimulateRequest_removed_owners(value.removedOwners, problems);
}

/** Adds what breaks the contract's rules in `ShardLoad`. */
export function checkShardLoad(value: ShardLoad, problems: FieldProblems): void {
  if (!(value.id >= 0 && value.id <= 4294967295)) problems.range(value.id, 0, 4294967295, "id");
  if (value.latency !== undefined) {
    problems.duration(value.latency, 3600000, "latency");
  }
  if (!(value.errorRatio >= 0 && value.errorRatio <= 1)) problems.range(value.errorRatio, 0, 1, "error_ratio");
  if (!(value.rate >= 0 && value.rate <= 1000000000000)) problems.range(value.rate, 0, 1000000000000, "rate");
}

function checkShardServiceAttachRequest_prepared(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 10000, "prepared");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 9999)) problems.range(item, 0, 9999, "");
    if (problems.count !== before) problems.under(before, `prepared[${i}]`);
  }
}

function checkShardServiceAttachRequest_dropped(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 10000, "dropped");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (!(item >= 0 && item <= 9999)) problems.range(item, 0, 9999, "");
    if (problems.count !== before) problems.under(before, `dropped[${i}]`);
  }
}

function checkShardServiceAttachRequest_loads(many: readonly ShardLoad[], problems: FieldProblems): void {
  problems.items(many.length, 10000, "loads");
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkShardLoad(item, problems);
    if (problems.count !== before) problems.under(before, `loads[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `ShardServiceAttachRequest`. */
export function checkShardServiceAttachRequest(value: ShardServiceAttachRequest, problems: FieldProblems): void {
  if (value.namespace !== "") problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.instance !== "") problems.text(value.instance, 128, "instance");
  if (!(value.slots >= 0 && value.slots <= 4294967295)) problems.range(value.slots, 0, 4294967295, "slots");
  if (!(value.weight >= 0 && value.weight <= 1000)) problems.range(value.weight, 0, 1000, "weight");
  if (value.prepared.length > 0) checkShardServiceAttachRequest_prepared(value.prepared, problems);
  if (value.dropped.length > 0) checkShardServiceAttachRequest_dropped(value.dropped, problems);
  if (value.loads.length > 0) checkShardServiceAttachRequest_loads(value.loads, problems);
}

/** Adds what breaks the contract's rules in `RegisterRequest`. */
export function checkRegisterRequest(value: RegisterRequest, problems: FieldProblems): void {
  if (value.ttl !== undefined) {
    problems.duration(value.ttl, 315576000000000, "ttl");
  }
  if (value.leaseId !== "") problems.text(value.leaseId, 256, "lease_id");
  if (value.idempotencyKey !== "") problems.text(value.idempotencyKey, 128, "idempotency_key");
}

/** Adds what breaks the contract's rules in `EntryReport`. */
export function checkEntryReport(value: EntryReport, problems: FieldProblems): void {
  if (value.key === undefined) problems.add("key", "is required");
  if (value.health === 5) problems.add("health", "must be one of HEALTHY, DEGRADED, CRITICAL, MAINTENANCE, got ORPHANED");
  problems.known(value.health, 5, "a health status", "health");
}

function checkRenewRequest_lease_ids(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 256, "");
    if (problems.count !== before) problems.under(before, `lease_ids[${i}]`);
  }
}

function checkRenewRequest_reports(many: readonly EntryReport[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkEntryReport(item, problems);
    if (problems.count !== before) problems.under(before, `reports[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `RenewRequest`. */
export function checkRenewRequest(value: RenewRequest, problems: FieldProblems): void {
  if (value.leaseIds.length > 0) checkRenewRequest_lease_ids(value.leaseIds, problems);
  if (value.reports.length > 0) checkRenewRequest_reports(value.reports, problems);
}

function checkKeepAliveRequest_lease_ids(many: readonly string[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.text(item, 256, "");
    if (problems.count !== before) problems.under(before, `lease_ids[${i}]`);
  }
}

function checkKeepAliveRequest_reports(many: readonly EntryReport[], problems: FieldProblems): void {
  for (let i = 0; i < many.length; i++) {
    const item = many[i];
    if (item === undefined) continue;
    const before = problems.count;
    checkEntryReport(item, problems);
    if (problems.count !== before) problems.under(before, `reports[${i}].`);
  }
}

/** Adds what breaks the contract's rules in `KeepAliveRequest`. */
export function checkKeepAliveRequest(value: KeepAliveRequest, problems: FieldProblems): void {
  if (value.leaseIds.length > 0) checkKeepAliveRequest_lease_ids(value.leaseIds, problems);
  if (value.reports.length > 0) checkKeepAliveRequest_reports(value.reports, problems);
}

/** Adds what breaks the contract's rules in `UnregisterRequest`. */
export function checkUnregisterRequest(value: UnregisterRequest, problems: FieldProblems): void {
  if (value.leaseId !== "") problems.text(value.leaseId, 256, "lease_id");
}

/** Adds what breaks the contract's rules in `SetMaintenanceRequest`. */
export function checkSetMaintenanceRequest(value: SetMaintenanceRequest, problems: FieldProblems): void {
  if (value.nodeId !== "") problems.name(value.nodeId, problems.bounds.maxIdLength, "node_id");
  problems.bytes(value.reason, 256, "reason");
}

function checkCatalogQueryRequest_names(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 1000, "names");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `names[${i}]`);
  }
}

function checkCatalogQueryRequest_kinds(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 16, "kinds");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of SERVICE, FUNCTION, TOPIC, QUEUE, CACHE, NODE");
    problems.known(item, 6, "an entry kind", "");
    if (problems.count !== before) problems.under(before, `kinds[${i}]`);
  }
}

function checkCatalogQueryRequest_capabilities(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "capabilities");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `capabilities[${i}]`);
  }
}

function checkCatalogQueryRequest_tags(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "tags");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `tags[${i}]`);
  }
}

function checkCatalogQueryRequest_resources(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "resources");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `resources[${i}]`);
  }
}

function checkCatalogQueryRequest_health(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 16, "health");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of HEALTHY, DEGRADED, CRITICAL, MAINTENANCE, ORPHANED");
    problems.known(item, 5, "a health status", "");
    if (problems.count !== before) problems.under(before, `health[${i}]`);
  }
}

function checkCatalogQueryRequest_via(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 4, "via");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxIdLength, "");
    if (problems.count !== before) problems.under(before, `via[${i}]`);
  }
}

function checkCatalogQueryRequest_aliases(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "aliases");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.alias(item, 253, "");
    if (problems.count !== before) problems.under(before, `aliases[${i}]`);
  }
}

function checkCatalogQueryRequest_hosts(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "hosts");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.alias(item, 253, "");
    if (problems.count !== before) problems.under(before, `hosts[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `CatalogQueryRequest`. */
export function checkCatalogQueryRequest(value: CatalogQueryRequest, problems: FieldProblems): void {
  if (value.namespace !== "") problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.namespacePrefix !== "") problems.namespace(value.namespacePrefix, problems.bounds.maxNamespaceLength, "namespace_prefix");
  if (value.names.length > 0) checkCatalogQueryRequest_names(value.names, problems);
  if (value.kinds.length > 0) checkCatalogQueryRequest_kinds(value.kinds, problems);
  problems.known(value.scope, 4, "a scope", "scope");
  if (value.capabilities.length > 0) checkCatalogQueryRequest_capabilities(value.capabilities, problems);
  if (value.tags.length > 0) checkCatalogQueryRequest_tags(value.tags, problems);
  if (value.resources.length > 0) checkCatalogQueryRequest_resources(value.resources, problems);
  if (value.clusterId !== "") problems.name(value.clusterId, problems.bounds.maxIdLength, "cluster_id");
  if (value.region !== "") problems.name(value.region, problems.bounds.maxIdLength, "region");
  if (value.health.length > 0) checkCatalogQueryRequest_health(value.health, problems);
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
  if (value.viewer !== undefined) {
    const before = problems.count;
    checkViewer(value.viewer, problems);
    if (problems.count !== before) problems.under(before, "viewer.");
  }
  if (value.maxStaleness !== undefined) {
    problems.duration(value.maxStaleness, 315576000000000, "max_staleness");
  }
  if (value.versionRange !== "") problems.text(value.versionRange, 128, "version_range");
  if (value.subject !== "") problems.text(value.subject, 256, "subject");
  if (value.via.length > 0) checkCatalogQueryRequest_via(value.via, problems);
  if (value.aliases.length > 0) checkCatalogQueryRequest_aliases(value.aliases, problems);
  if (value.hosts.length > 0) checkCatalogQueryRequest_hosts(value.hosts, problems);
}

function checkCatalogWatchRequest_names(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 1000, "names");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `names[${i}]`);
  }
}

function checkCatalogWatchRequest_kinds(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 16, "kinds");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of SERVICE, FUNCTION, TOPIC, QUEUE, CACHE, NODE");
    problems.known(item, 6, "an entry kind", "");
    if (problems.count !== before) problems.under(before, `kinds[${i}]`);
  }
}

function checkCatalogWatchRequest_capabilities(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "capabilities");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `capabilities[${i}]`);
  }
}

function checkCatalogWatchRequest_tags(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "tags");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `tags[${i}]`);
  }
}

function checkCatalogWatchRequest_resources(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "resources");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `resources[${i}]`);
  }
}

function checkCatalogWatchRequest_health(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 16, "health");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of HEALTHY, DEGRADED, CRITICAL, MAINTENANCE, ORPHANED");
    problems.known(item, 5, "a health status", "");
    if (problems.count !== before) problems.under(before, `health[${i}]`);
  }
}

function checkCatalogWatchRequest_via(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 4, "via");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxIdLength, "");
    if (problems.count !== before) problems.under(before, `via[${i}]`);
  }
}

function checkCatalogWatchRequest_namespace_prefixes(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 1024, "namespace_prefixes");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    if (item !== "") problems.namespace(item, problems.bounds.maxNamespaceLength, "");
    if (problems.count !== before) problems.under(before, `namespace_prefixes[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `CatalogWatchRequest`. */
export function checkCatalogWatchRequest(value: CatalogWatchRequest, problems: FieldProblems): void {
  if (value.namespace !== "") problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.namespacePrefix !== "") problems.namespace(value.namespacePrefix, problems.bounds.maxNamespaceLength, "namespace_prefix");
  if (value.names.length > 0) checkCatalogWatchRequest_names(value.names, problems);
  if (value.kinds.length > 0) checkCatalogWatchRequest_kinds(value.kinds, problems);
  problems.known(value.scope, 4, "a scope", "scope");
  if (value.capabilities.length > 0) checkCatalogWatchRequest_capabilities(value.capabilities, problems);
  if (value.tags.length > 0) checkCatalogWatchRequest_tags(value.tags, problems);
  if (value.resources.length > 0) checkCatalogWatchRequest_resources(value.resources, problems);
  if (value.clusterId !== "") problems.name(value.clusterId, problems.bounds.maxIdLength, "cluster_id");
  if (value.region !== "") problems.name(value.region, problems.bounds.maxIdLength, "region");
  if (value.health.length > 0) checkCatalogWatchRequest_health(value.health, problems);
  if (value.viewer !== undefined) {
    const before = problems.count;
    checkViewer(value.viewer, problems);
    if (problems.count !== before) problems.under(before, "viewer.");
  }
  if (value.cursor !== "") problems.text(value.cursor, 65536, "cursor");
  if (value.bookmarkInterval !== undefined) {
    problems.duration(value.bookmarkInterval, 10000, "bookmark_interval", 1000);
  }
  if (value.versionRange !== "") problems.text(value.versionRange, 128, "version_range");
  if (value.via.length > 0) checkCatalogWatchRequest_via(value.via, problems);
  if (value.namespacePrefixes.length > 0) checkCatalogWatchRequest_namespace_prefixes(value.namespacePrefixes, problems);
}

/** Adds what breaks the contract's rules in `Preference`. */
export function checkPreference(value: Preference, problems: FieldProblems): void {
  if (value.region !== "") problems.name(value.region, problems.bounds.maxIdLength, "region");
  if (value.zone !== "") problems.name(value.zone, problems.bounds.maxIdLength, "zone");
}

function checkResolveRequest_visited_clusters(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 8, "visited_clusters");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxIdLength, "");
    if (problems.count !== before) problems.under(before, `visited_clusters[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `DiscoveryResolveRequest`. */
export function checkDiscoveryResolveRequest(value: DiscoveryResolveRequest, problems: FieldProblems): void {
  problems.known(value.kind, 6, "an entry kind", "kind");
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  problems.name(value.name, problems.bounds.maxNameLength, "name");
  if (value.versionRange !== "") problems.text(value.versionRange, 128, "version_range");
  if (value.prefer !== undefined) {
    const before = problems.count;
    checkPreference(value.prefer, problems);
    if (problems.count !== before) problems.under(before, "prefer.");
  }
  problems.known(value.policy, 4, "a resolve policy", "policy");
  problems.bytes(value.hashKey, 1024, "hash_key");
  if (value.viewer !== undefined) {
    const before = problems.count;
    checkViewer(value.viewer, problems);
    if (problems.count !== before) problems.under(before, "viewer.");
  }
  if (!(value.limit >= 0 && value.limit <= 100)) problems.range(value.limit, 0, 100, "limit");
  if (value.visitedClusters.length > 0) checkResolveRequest_visited_clusters(value.visitedClusters, problems);
}

function checkClusterMapRequest_capabilities(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "capabilities");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `capabilities[${i}]`);
  }
}

function checkClusterMapRequest_resources(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "resources");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `resources[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `ClusterMapRequest`. */
export function checkClusterMapRequest(value: ClusterMapRequest, problems: FieldProblems): void {
  problems.known(value.scope, 4, "a scope", "scope");
  if (value.namespaceFilter !== "") problems.namespace(value.namespaceFilter, problems.bounds.maxNamespaceLength, "namespace_filter");
  if (value.capabilities.length > 0) checkClusterMapRequest_capabilities(value.capabilities, problems);
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
  if (value.resources.length > 0) checkClusterMapRequest_resources(value.resources, problems);
}

/** Adds what breaks the contract's rules in `ListPeersRequest`. */
export function checkListPeersRequest(value: ListPeersRequest, problems: FieldProblems): void {
  problems.known(value.scope, 4, "a scope", "scope");
  if (value.region !== "") problems.name(value.region, problems.bounds.maxIdLength, "region");
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
}

function checkSummaryQueryRequest_ingress_capabilities(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "ingress_capabilities");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `ingress_capabilities[${i}]`);
  }
}

function checkSummaryQueryRequest_ingress_tags(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "ingress_tags");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `ingress_tags[${i}]`);
  }
}

function checkSummaryQueryRequest_kinds(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 16, "kinds");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of SERVICE, FUNCTION, TOPIC, QUEUE, CACHE, NODE");
    problems.known(item, 6, "an entry kind", "");
    if (problems.count !== before) problems.under(before, `kinds[${i}]`);
  }
}

function checkSummaryQueryRequest_regions(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "regions");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxIdLength, "");
    if (problems.count !== before) problems.under(before, `regions[${i}]`);
  }
}

function checkSummaryQueryRequest_via(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 4, "via");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxIdLength, "");
    if (problems.count !== before) problems.under(before, `via[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `SummaryQueryRequest`. */
export function checkSummaryQueryRequest(value: SummaryQueryRequest, problems: FieldProblems): void {
  problems.known(value.scope, 4, "a scope", "scope");
  if (value.namespace !== "") problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.serviceId !== "") problems.name(value.serviceId, problems.bounds.maxNameLength, "service_id");
  if (!(value.ingressLimit >= 0 && value.ingressLimit <= 100)) problems.range(value.ingressLimit, 0, 100, "ingress_limit");
  problems.known(value.ingressScope, 4, "a scope", "ingress_scope");
  if (value.ingressCapabilities.length > 0) checkSummaryQueryRequest_ingress_capabilities(value.ingressCapabilities, problems);
  if (value.ingressTags.length > 0) checkSummaryQueryRequest_ingress_tags(value.ingressTags, problems);
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
  if (value.namespacePrefix !== "") problems.namespace(value.namespacePrefix, problems.bounds.maxNamespaceLength, "namespace_prefix");
  if (value.kinds.length > 0) checkSummaryQueryRequest_kinds(value.kinds, problems);
  if (value.regions.length > 0) checkSummaryQueryRequest_regions(value.regions, problems);
  if (value.viewer !== undefined) {
    const before = problems.count;
    checkViewer(value.viewer, problems);
    if (problems.count !== before) problems.under(before, "viewer.");
  }
  if (value.via.length > 0) checkSummaryQueryRequest_via(value.via, problems);
}

function checkSummaryWatchRequest_kinds(many: readonly number[], problems: FieldProblems): void {
  problems.items(many.length, 16, "kinds");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? 0;
    const before = problems.count;
    if (item === 0) problems.add("", "must be one of SERVICE, FUNCTION, TOPIC, QUEUE, CACHE, NODE");
    problems.known(item, 6, "an entry kind", "");
    if (problems.count !== before) problems.under(before, `kinds[${i}]`);
  }
}

function checkSummaryWatchRequest_regions(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "regions");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxIdLength, "");
    if (problems.count !== before) problems.under(before, `regions[${i}]`);
  }
}

function checkSummaryWatchRequest_via(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 4, "via");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxIdLength, "");
    if (problems.count !== before) problems.under(before, `via[${i}]`);
  }
}

function checkSummaryWatchRequest_namespace_prefixes(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 1024, "namespace_prefixes");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    if (item !== "") problems.namespace(item, problems.bounds.maxNamespaceLength, "");
    if (problems.count !== before) problems.under(before, `namespace_prefixes[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `SummaryWatchRequest`. */
export function checkSummaryWatchRequest(value: SummaryWatchRequest, problems: FieldProblems): void {
  problems.known(value.scope, 4, "a scope", "scope");
  if (value.namespace !== "") problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.namespacePrefix !== "") problems.namespace(value.namespacePrefix, problems.bounds.maxNamespaceLength, "namespace_prefix");
  if (value.kinds.length > 0) checkSummaryWatchRequest_kinds(value.kinds, problems);
  if (value.regions.length > 0) checkSummaryWatchRequest_regions(value.regions, problems);
  if (value.viewer !== undefined) {
    const before = problems.count;
    checkViewer(value.viewer, problems);
    if (problems.count !== before) problems.under(before, "viewer.");
  }
  if (value.cursor !== "") problems.text(value.cursor, 65536, "cursor");
  if (value.bookmarkInterval !== undefined) {
    problems.duration(value.bookmarkInterval, 10000, "bookmark_interval", 1000);
  }
  if (value.via.length > 0) checkSummaryWatchRequest_via(value.via, problems);
  if (value.namespacePrefixes.length > 0) checkSummaryWatchRequest_namespace_prefixes(value.namespacePrefixes, problems);
}

/** Adds what breaks the contract's rules in `NamespaceStatusRequest`. */
export function checkNamespaceStatusRequest(value: NamespaceStatusRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
}

/** Adds what breaks the contract's rules in `RegisteredName`. */
export function checkRegisteredName(value: RegisteredName, problems: FieldProblems): void {
  problems.alias(value.name, 253, "name");
  if (value.key === undefined) problems.add("key", "is required");
}

function checkEndpoint_targets(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "targets");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.host(item, 253, "");
    if (problems.count !== before) problems.under(before, `targets[${i}]`);
  }
}

function checkEndpoint_tags(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "tags");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `tags[${i}]`);
  }
  problems.unique(many, "tags");
}

function checkEndpoint_capabilities(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "capabilities");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.name(item, problems.bounds.maxNameLength, "");
    if (problems.count !== before) problems.under(before, `capabilities[${i}]`);
  }
  problems.unique(many, "capabilities");
}

function checkEndpoint_metadata(many: Readonly<Record<string, string>>, problems: FieldProblems): void {
  let count = 0;
  for (const key in many) {
    count++;
    const value = many[key] ?? "";
    const before = problems.count;
    problems.name(key, 63, "");
    problems.bytes(value, 1024, "");
    if (problems.count !== before) problems.under(before, `metadata[${quoted(key)}]`);
  }
  problems.items(count, 64, "metadata");
}

function checkEndpoint_aliases(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 64, "aliases");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.alias(item, 253, "");
    if (problems.count !== before) problems.under(before, `aliases[${i}]`);
  }
  problems.unique(many, "aliases");
}

/** Adds what breaks the contract's rules in `Endpoint`. */
export function checkEndpoint(value: Endpoint, problems: FieldProblems): void {
  problems.name(value.name, problems.bounds.maxNameLength, "name");
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.protocol !== "") problems.name(value.protocol, 32, "protocol");
  if (!(value.port >= 1 && value.port <= 65535)) problems.range(value.port, 1, 65535, "port");
  if (value.targets.length === 0) problems.add("targets", "is empty, but must have 1 to 64 items");
  else checkEndpoint_targets(value.targets, problems);
  problems.known(value.scope, 4, "a scope", "scope");
  if (value.tags.length > 0) checkEndpoint_tags(value.tags, problems);
  if (value.capabilities.length > 0) checkEndpoint_capabilities(value.capabilities, problems);
  checkEndpoint_metadata(value.metadata, problems);
  if (!(value.priority >= 0 && value.priority <= 65535)) problems.range(value.priority, 0, 65535, "priority");
  if (!(value.weight >= 0 && value.weight <= 65535)) problems.range(value.weight, 0, 65535, "weight");
  if (value.ttl !== undefined) {
    problems.duration(value.ttl, 86400000, "ttl");
  }
  if (value.aliases.length > 0) checkEndpoint_aliases(value.aliases, problems);
}

/** Adds what breaks the contract's rules in `RegisterNameRequest`. */
export function checkRegisterNameRequest(value: RegisterNameRequest, problems: FieldProblems): void {
  if (value.leaseTtl !== undefined) {
    problems.duration(value.leaseTtl, 86400000, "lease_ttl", 1000);
  }
  if (value.leaseId !== "") problems.text(value.leaseId, 256, "lease_id");
  if (value.idempotencyKey !== "") problems.text(value.idempotencyKey, 128, "idempotency_key");
  switch (value.registration.case) {
    case "name": {
      const before = problems.count;
      checkRegisteredName(value.registration.value, problems);
      if (problems.count !== before) problems.under(before, "name.");
      return;
    }
    case "endpoint": {
      const before = problems.count;
      checkEndpoint(value.registration.value, problems);
      if (problems.count !== before) problems.under(before, "endpoint.");
      return;
    }
    case undefined:
  }
}

/** Adds what breaks the contract's rules in `UnregisterNameRequest`. */
export function checkUnregisterNameRequest(value: UnregisterNameRequest, problems: FieldProblems): void {
  problems.name(value.name, 253, "name");
  if (value.namespace !== "") problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  if (value.protocol !== "") problems.name(value.protocol, 32, "protocol");
  if (!(value.port >= 0 && value.port <= 65535)) problems.range(value.port, 0, 65535, "port");
}

/** Adds what breaks the contract's rules in `ListNamesRequest`. */
export function checkListNamesRequest(value: ListNamesRequest, problems: FieldProblems): void {
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
  if (value.namespacePrefix !== "") problems.namespace(value.namespacePrefix, problems.bounds.maxNamespaceLength, "namespace_prefix");
  if (value.viewer !== undefined) {
    const before = problems.count;
    checkViewer(value.viewer, problems);
    if (problems.count !== before) problems.under(before, "viewer.");
  }
}

/** Adds what breaks the contract's rules in `DescribeNameRequest`. */
export function checkDescribeNameRequest(value: DescribeNameRequest, problems: FieldProblems): void {
  problems.text(value.name, 255, "name");
  if (value.namespace !== "") problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  problems.known(value.kind, 6, "an entry kind", "kind");
  if (value.viewer !== undefined) {
    const before = problems.count;
    checkViewer(value.viewer, problems);
    if (problems.count !== before) problems.under(before, "viewer.");
  }
}

/** Adds what breaks the contract's rules in `NameSource`. */
export function checkNameSource(value: NameSource, problems: FieldProblems): void {
  problems.text(value.address, 45, "address");
  if (value.listener !== "") problems.text(value.listener, 8, "listener");
}

/** Adds what breaks the contract's rules in `ResolveNameRequest`. */
export function checkResolveNameRequest(value: ResolveNameRequest, problems: FieldProblems): void {
  problems.text(value.name, 255, "name");
  if (value.recordType !== "") problems.text(value.recordType, 16, "record_type");
  if (value.viewer !== undefined) {
    const before = problems.count;
    checkViewer(value.viewer, problems);
    if (problems.count !== before) problems.under(before, "viewer.");
  }
  if (value.source !== undefined) {
    const before = problems.count;
    checkNameSource(value.source, problems);
    if (problems.count !== before) problems.under(before, "source.");
  }
}

/** Adds what breaks the contract's rules in `ResolverResolveRequest`. */
export function checkResolverResolveRequest(value: ResolverResolveRequest, problems: FieldProblems): void {
  problems.namespace(value.namespace, problems.bounds.maxNamespaceLength, "namespace");
  problems.name(value.name, problems.bounds.maxNameLength, "name");
  problems.known(value.kind, 6, "an entry kind", "kind");
  if (!(value.limit >= 0 && value.limit <= 2147483647)) problems.range(value.limit, 0, 2147483647, "limit");
  if (value.pageToken !== "") problems.text(value.pageToken, 8192, "page_token");
  if (value.maxStaleness !== undefined) {
    problems.duration(value.maxStaleness, 315576000000000, "max_staleness");
  }
  if (value.viewer !== undefined) {
    const before = problems.count;
    checkViewer(value.viewer, problems);
    if (problems.count !== before) problems.under(before, "viewer.");
  }
}

function checkResyncRequest_namespaces(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 1000, "namespaces");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.namespace(item, problems.bounds.maxNamespaceLength, "");
    if (problems.count !== before) problems.under(before, `namespaces[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `ResyncRequest`. */
export function checkResyncRequest(value: ResyncRequest, problems: FieldProblems): void {
  if (value.namespaces.length > 0) checkResyncRequest_namespaces(value.namespaces, problems);
}

function checkPrewarmRequest_namespaces(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 1000, "namespaces");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.namespace(item, problems.bounds.maxNamespaceLength, "");
    if (problems.count !== before) problems.under(before, `namespaces[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `PrewarmRequest`. */
export function checkPrewarmRequest(value: PrewarmRequest, problems: FieldProblems): void {
  if (value.namespaces.length === 0) problems.add("namespaces", "is empty, but must have 1 to 1000 items");
  else checkPrewarmRequest_namespaces(value.namespaces, problems);
}

function checkEvictRequest_namespaces(many: readonly string[], problems: FieldProblems): void {
  problems.items(many.length, 1000, "namespaces");
  for (let i = 0; i < many.length; i++) {
    const item = many[i] ?? "";
    const before = problems.count;
    problems.namespace(item, problems.bounds.maxNamespaceLength, "");
    if (problems.count !== before) problems.under(before, `namespaces[${i}]`);
  }
}

/** Adds what breaks the contract's rules in `EvictRequest`. */
export function checkEvictRequest(value: EvictRequest, problems: FieldProblems): void {
  if (value.namespaces.length > 0) checkEvictRequest_namespaces(value.namespaces, problems);
}

/** Settings of the node that bound lists and maps. */
export type ListSetting = "maxListItems" | "maxMetadataPairs" | "maxRequestEntries" | "maxTargets";

/** Most items of each list and map of requests: a number, or the setting that says it. */
export const LIST_BOUNDS: ReadonlyMap<string, number | ListSetting> = new Map<string, number | ListSetting>([
  ["waymark.policy.v1.PolicySet.rules", 10000],
  ["waymark.policy.v1.NamespacePolicy.owners", 1000],
  ["waymark.policy.v1.NamespacePolicy.visibility", 1000],
  ["waymark.policy.v1.NamespacePolicy.visibility_tenants", 1000],
  ["waymark.policy.v1.NamespacePolicy.export_scopes", 5],
  ["waymark.policy.v1.NamespacePolicy.cutover_windows", 256],
  ["waymark.policy.v1.CutoverWindow.export_scopes", 5],
  ["waymark.policy.v1.ClusterList.cluster_ids", 1000],
  ["waymark.policy.v1.WatchPolicyRequest.known", 100],
  ["waymark.policy.v1.WatchPolicyRequest.via", 4],
  ["waymark.control.v1.AuditServiceListRequest.outcomes", 3],
  ["waymark.control.v1.AuditServiceListRequest.kinds", 3],
  ["waymark.control.v1.AuditServiceWatchRequest.outcomes", 3],
  ["waymark.control.v1.AuditServiceWatchRequest.kinds", 3],
  ["waymark.control.v1.BootstrapServiceCreateTokenRequest.dns_names", 16],
  ["waymark.control.v1.BootstrapServiceIssueRequest.dns_names", 16],
  ["waymark.control.v1.JoinPolicy.issuers", 16],
  ["waymark.control.v1.JoinPolicy.rules", 256],
  ["waymark.control.v1.AttestationIssuer.algorithms", 10],
  ["waymark.control.v1.JoinRule.roles", 3],
  ["waymark.control.v1.JoinRule.clusters", 64],
  ["waymark.control.v1.JoinRule.names", 256],
  ["waymark.control.v1.JoinRule.dns_names", 16],
  ["waymark.control.v1.RequiredAttestation.claims", 32],
  ["waymark.control.v1.RequiredClaim.values", 64],
  ["waymark.control.v1.CredentialServiceCreateRequest.roles", 64],
  ["waymark.control.v1.LeadershipServiceSubscribeRequest.scopes", 100],
  ["waymark.control.v1.PeerServiceListRequest.statuses", 4],
  ["waymark.control.v1.PeerServiceListRequest.health", 3],
  ["waymark.control.v1.PeerServiceListRequest.roles", 16],
  ["waymark.control.v1.PeerServiceListRequest.desired", 3],
  ["waymark.control.v1.PeerServiceWatchRequest.statuses", 4],
  ["waymark.control.v1.PeerServiceWatchRequest.health", 3],
  ["waymark.control.v1.PeerServiceWatchRequest.roles", 16],
  ["waymark.control.v1.PeerServiceWatchRequest.desired", 3],
  ["waymark.control.v1.PeerServiceSetLabelsRequest.labels", 64],
  ["waymark.control.v1.PeerServiceSetLabelsRequest.remove", 64],
  ["waymark.control.v1.RebalanceServiceListPlansRequest.states", 8],
  ["waymark.control.v1.ShardServiceListRequest.statuses", 5],
  ["waymark.control.v1.ShardServiceSimulateRequest.owners", 1000],
  ["waymark.control.v1.ShardServiceSimulateRequest.removed_owners", 1000],
  ["waymark.control.v1.ShardServiceAttachRequest.prepared", 10000],
  ["waymark.control.v1.ShardServiceAttachRequest.dropped", 10000],
  ["waymark.control.v1.ShardServiceAttachRequest.loads", 10000],
  ["waymark.discovery.v1.RegisterRequest.entries", "maxRequestEntries"],
  ["waymark.catalog.v1.Entry.targets", "maxTargets"],
  ["waymark.catalog.v1.Entry.tags", "maxListItems"],
  ["waymark.catalog.v1.Entry.capabilities", "maxListItems"],
  ["waymark.catalog.v1.Entry.resources", "maxListItems"],
  ["waymark.catalog.v1.Entry.metadata", "maxMetadataPairs"],
  ["waymark.catalog.v1.Entry.aliases", "maxListItems"],
  ["waymark.catalog.v1.Entry.checks", 4],
  ["waymark.catalog.v1.Entry.check_states", 4],
  ["waymark.catalog.v1.FunctionDetail.resources", "maxListItems"],
  ["waymark.catalog.v1.TopicDetail.patterns", "maxListItems"],
  ["waymark.catalog.v1.QueueDetail.delivery_guarantees", "maxListItems"],
  ["waymark.catalog.v1.CacheDetail.modes", "maxListItems"],
  ["waymark.catalog.v1.NodeDetail.advertised_urls", "maxListItems"],
  ["waymark.catalog.v1.NodeDetail.transports", "maxListItems"],
  ["waymark.catalog.v1.NodeDetail.protocol_versions", "maxListItems"],
  ["waymark.catalog.v1.NodeDetail.labels", "maxListItems"],
  ["waymark.discovery.v1.RenewRequest.lease_ids", "maxRequestEntries"],
  ["waymark.discovery.v1.RenewRequest.reports", "maxRequestEntries"],
  ["waymark.discovery.v1.KeepAliveRequest.lease_ids", "maxRequestEntries"],
  ["waymark.discovery.v1.KeepAliveRequest.reports", "maxRequestEntries"],
  ["waymark.discovery.v1.UnregisterRequest.keys", "maxRequestEntries"],
  ["waymark.discovery.v1.SetMaintenanceRequest.keys", "maxRequestEntries"],
  ["waymark.discovery.v1.CatalogQueryRequest.names", 1000],
  ["waymark.discovery.v1.CatalogQueryRequest.kinds", 16],
  ["waymark.discovery.v1.CatalogQueryRequest.capabilities", 64],
  ["waymark.discovery.v1.CatalogQueryRequest.tags", 64],
  ["waymark.discovery.v1.CatalogQueryRequest.resources", 64],
  ["waymark.discovery.v1.CatalogQueryRequest.health", 16],
  ["waymark.discovery.v1.CatalogQueryRequest.via", 4],
  ["waymark.discovery.v1.CatalogQueryRequest.aliases", 64],
  ["waymark.discovery.v1.CatalogQueryRequest.hosts", 64],
  ["waymark.discovery.v1.CatalogWatchRequest.names", 1000],
  ["waymark.discovery.v1.CatalogWatchRequest.kinds", 16],
  ["waymark.discovery.v1.CatalogWatchRequest.capabilities", 64],
  ["waymark.discovery.v1.CatalogWatchRequest.tags", 64],
  ["waymark.discovery.v1.CatalogWatchRequest.resources", 64],
  ["waymark.discovery.v1.CatalogWatchRequest.health", 16],
  ["waymark.discovery.v1.CatalogWatchRequest.via", 4],
  ["waymark.discovery.v1.CatalogWatchRequest.namespace_prefixes", 1024],
  ["waymark.discovery.v1.ResolveRequest.visited_clusters", 8],
  ["waymark.discovery.v1.ClusterMapRequest.capabilities", 64],
  ["waymark.discovery.v1.ClusterMapRequest.resources", 64],
  ["waymark.discovery.v1.SummaryQueryRequest.ingress_capabilities", 64],
  ["waymark.discovery.v1.SummaryQueryRequest.ingress_tags", 64],
  ["waymark.discovery.v1.SummaryQueryRequest.kinds", 16],
  ["waymark.discovery.v1.SummaryQueryRequest.regions", 64],
  ["waymark.discovery.v1.SummaryQueryRequest.via", 4],
  ["waymark.discovery.v1.SummaryWatchRequest.kinds", 16],
  ["waymark.discovery.v1.SummaryWatchRequest.regions", 64],
  ["waymark.discovery.v1.SummaryWatchRequest.via", 4],
  ["waymark.discovery.v1.SummaryWatchRequest.namespace_prefixes", 1024],
  ["waymark.dns.v1.Endpoint.targets", 64],
  ["waymark.dns.v1.Endpoint.tags", 64],
  ["waymark.dns.v1.Endpoint.capabilities", 64],
  ["waymark.dns.v1.Endpoint.metadata", 64],
  ["waymark.dns.v1.Endpoint.aliases", 64],
  ["waymark.resolver.v1.ResyncRequest.namespaces", 1000],
  ["waymark.resolver.v1.PrewarmRequest.namespaces", 1000],
  ["waymark.resolver.v1.EvictRequest.namespaces", 1000],
]);

export type RequestCheck = (request: never, problems: FieldProblems) => void;

/** The check of a request by the name of its type. A request that cannot break a rule has none. */
export const REQUEST_CHECKS: ReadonlyMap<string, RequestCheck> = new Map<string, RequestCheck>([
  ["waymark.policy.v1.ValidatePolicyRequest", checkValidatePolicyRequest],
  ["waymark.policy.v1.ApplyPolicyRequest", checkApplyPolicyRequest],
  ["waymark.policy.v1.RollbackPolicyRequest", checkRollbackPolicyRequest],
  ["waymark.policy.v1.PolicyHistoryRequest", checkPolicyHistoryRequest],
  ["waymark.policy.v1.WatchPolicyRequest", checkWatchPolicyRequest],
  ["waymark.policy.v1.ExplainRequest", checkExplainRequest],
  ["waymark.policy.v1.PolicyAuditRequest", checkPolicyAuditRequest],
  ["waymark.policy.v1.AccessAuditRequest", checkAccessAuditRequest],
  ["waymark.policy.v1.VerifyAuditRequest", checkVerifyAuditRequest],
  ["waymark.control.v1.AuditServiceListRequest", checkAuditServiceListRequest],
  ["waymark.control.v1.AuditServiceWatchRequest", checkAuditServiceWatchRequest],
  ["waymark.control.v1.BootstrapServiceCreateTokenRequest", checkBootstrapServiceCreateTokenRequest],
  ["waymark.control.v1.BootstrapServiceListTokensRequest", checkBootstrapServiceListTokensRequest],
  ["waymark.control.v1.BootstrapServiceRevokeTokenRequest", checkBootstrapServiceRevokeTokenRequest],
  ["waymark.control.v1.BootstrapServiceIssueRequest", checkBootstrapServiceIssueRequest],
  ["waymark.control.v1.BootstrapServiceRevokeRequest", checkBootstrapServiceRevokeRequest],
  ["waymark.control.v1.BootstrapServiceListIdentitiesRequest", checkBootstrapServiceListIdentitiesRequest],
  ["waymark.control.v1.BootstrapServicePublishRootRequest", checkBootstrapServicePublishRootRequest],
  ["waymark.control.v1.BootstrapServiceDropRootRequest", checkBootstrapServiceDropRootRequest],
  ["waymark.control.v1.BootstrapServiceApplyJoinPolicyRequest", checkBootstrapServiceApplyJoinPolicyRequest],
  ["waymark.control.v1.ConfigServiceValidateRequest", checkConfigServiceValidateRequest],
  ["waymark.control.v1.CredentialServiceCreateRequest", checkCredentialServiceCreateRequest],
  ["waymark.control.v1.CredentialServiceListRequest", checkCredentialServiceListRequest],
  ["waymark.control.v1.CredentialServiceRevokeRequest", checkCredentialServiceRevokeRequest],
  ["waymark.control.v1.JoinServiceJoinRequest", checkJoinServiceJoinRequest],
  ["waymark.control.v1.JoinServiceRenewRequest", checkJoinServiceRenewRequest],
  ["waymark.control.v1.LeadershipServiceListRequest", checkLeadershipServiceListRequest],
  ["waymark.control.v1.LeadershipServiceSubscribeRequest", checkLeadershipServiceSubscribeRequest],
  ["waymark.control.v1.LeadershipServiceResignRequest", checkLeadershipServiceResignRequest],
  ["waymark.control.v1.LeadershipServiceRaiseStoreEpochRequest", checkLeadershipServiceRaiseStoreEpochRequest],
  ["waymark.control.v1.LeadershipServiceCampaignRequest", checkLeadershipServiceCampaignRequest],
  ["waymark.control.v1.PeerServiceListRequest", checkPeerServiceListRequest],
  ["waymark.control.v1.PeerServiceWatchRequest", checkPeerServiceWatchRequest],
  ["waymark.control.v1.PeerServiceGetRequest", checkPeerServiceGetRequest],
  ["waymark.control.v1.PeerServiceLagRequest", checkPeerServiceLagRequest],
  ["waymark.control.v1.PeerServiceKeysRequest", checkPeerServiceKeysRequest],
  ["waymark.control.v1.PeerServiceCordonRequest", checkPeerServiceCordonRequest],
  ["waymark.control.v1.PeerServiceUncordonRequest", checkPeerServiceUncordonRequest],
  ["waymark.control.v1.PeerServiceDrainRequest", checkPeerServiceDrainRequest],
  ["waymark.control.v1.PeerServiceSetLabelsRequest", checkPeerServiceSetLabelsRequest],
  ["waymark.control.v1.PeerServiceForgetRequest", checkPeerServiceForgetRequest],
  ["waymark.control.v1.RebalanceServiceListPlansRequest", checkRebalanceServiceListPlansRequest],
  ["waymark.control.v1.RebalanceServiceProposeRequest", checkRebalanceServiceProposeRequest],
  ["waymark.control.v1.RebalanceServiceApproveRequest", checkRebalanceServiceApproveRequest],
  ["waymark.control.v1.RebalanceServiceCancelRequest", checkRebalanceServiceCancelRequest],
  ["waymark.control.v1.RebalanceServiceFreezeRequest", checkRebalanceServiceFreezeRequest],
  ["waymark.control.v1.RebalanceServiceWatchRequest", checkRebalanceServiceWatchRequest],
  ["waymark.control.v1.ShardServiceApplyRequest", checkShardServiceApplyRequest],
  ["waymark.control.v1.ShardServiceSetShardRequest", checkShardServiceSetShardRequest],
  ["waymark.control.v1.ShardServiceDeleteRequest", checkShardServiceDeleteRequest],
  ["waymark.control.v1.ShardServiceListRequest", checkShardServiceListRequest],
  ["waymark.control.v1.ShardServiceGetRequest", checkShardServiceGetRequest],
  ["waymark.control.v1.ShardServiceWatchRequest", checkShardServiceWatchRequest],
  ["waymark.control.v1.ShardServiceDiffRequest", checkShardServiceDiffRequest],
  ["waymark.control.v1.ShardServiceHistoryRequest", checkShardServiceHistoryRequest],
  ["waymark.control.v1.ShardServiceSimulateRequest", checkShardServiceSimulateRequest],
  ["waymark.control.v1.ShardServiceAttachRequest", checkShardServiceAttachRequest],
  ["waymark.discovery.v1.RegisterRequest", checkRegisterRequest],
  ["waymark.discovery.v1.RenewRequest", checkRenewRequest],
  ["waymark.discovery.v1.KeepAliveRequest", checkKeepAliveRequest],
  ["waymark.discovery.v1.UnregisterRequest", checkUnregisterRequest],
  ["waymark.discovery.v1.SetMaintenanceRequest", checkSetMaintenanceRequest],
  ["waymark.discovery.v1.CatalogQueryRequest", checkCatalogQueryRequest],
  ["waymark.discovery.v1.CatalogWatchRequest", checkCatalogWatchRequest],
  ["waymark.discovery.v1.ResolveRequest", checkDiscoveryResolveRequest],
  ["waymark.discovery.v1.ClusterMapRequest", checkClusterMapRequest],
  ["waymark.discovery.v1.ListPeersRequest", checkListPeersRequest],
  ["waymark.discovery.v1.SummaryQueryRequest", checkSummaryQueryRequest],
  ["waymark.discovery.v1.SummaryWatchRequest", checkSummaryWatchRequest],
  ["waymark.discovery.v1.NamespaceStatusRequest", checkNamespaceStatusRequest],
  ["waymark.dns.v1.RegisterNameRequest", checkRegisterNameRequest],
  ["waymark.dns.v1.UnregisterNameRequest", checkUnregisterNameRequest],
  ["waymark.dns.v1.ListNamesRequest", checkListNamesRequest],
  ["waymark.dns.v1.DescribeNameRequest", checkDescribeNameRequest],
  ["waymark.dns.v1.ResolveNameRequest", checkResolveNameRequest],
  ["waymark.resolver.v1.ResolveRequest", checkResolverResolveRequest],
  ["waymark.resolver.v1.ResyncRequest", checkResyncRequest],
  ["waymark.resolver.v1.PrewarmRequest", checkPrewarmRequest],
  ["waymark.resolver.v1.EvictRequest", checkEvictRequest],
]);
