/** Which rate limit a method falls under: read from its descriptor once a method. */
import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Cost } from "../policy/limits/rate-limits.ts";

/**
 * Never limited. `ServerInfo` is how one finds out what is wrong. A renewal is cheap, and one that is refused would end
 * leases in the middle of a flood: the reports in it are bounded by `catalog.load_interval` and by the lease's entries.
 */
const UNLIMITED: ReadonlySet<string> = new Set([
  "waymark.discovery.v1.DiscoveryService.ServerInfo",
  "waymark.discovery.v1.DiscoveryService.Renew",
  "waymark.discovery.v1.DiscoveryService.KeepAlive",
]);

/** Nodes among themselves have bounds of their own. */
const FABRIC = "waymark.fabric.v1.FabricService";

/** Reads whose proto does not say NO_SIDE_EFFECTS, which would let them be called by GET too. */
const READS: ReadonlySet<string> = new Set([
  "waymark.policy.v1.PolicyService.ValidatePolicy",
  "waymark.policy.v1.PolicyService.ExportPolicy",
  "waymark.policy.v1.PolicyService.PolicyStatus",
  "waymark.policy.v1.PolicyService.PolicyHistory",
  "waymark.policy.v1.PolicyService.Explain",
  "waymark.policy.v1.PolicyService.PolicyAudit",
  "waymark.policy.v1.PolicyService.AccessAudit",
  "waymark.policy.v1.PolicyService.VerifyAudit",
  "waymark.dns.v1.DnsService.ListNames",
  "waymark.dns.v1.DnsService.DescribeName",
  "waymark.dns.v1.DnsService.ResolveName",
  "waymark.control.v1.PeerService.List",
  "waymark.control.v1.PeerService.Get",
  "waymark.control.v1.PeerService.Lag",
  "waymark.resolver.v1.ResolverService.Resolve",
  "waymark.resolver.v1.ResolverService.CacheStats",
]);

/** Whether a call of the method changes nothing, whatever becomes of it. */
export function changesNothing(desc: DescMethod): boolean {
  return costOf(desc) === "read" || desc.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

/** What a call of the method takes a token for; undefined: it is never limited. Opening a watch is a read. */
export function costOf(desc: DescMethod): Cost | undefined {
  const name = `${desc.parent.typeName}.${desc.name}`;
  if (UNLIMITED.has(name) || desc.parent.typeName === FABRIC) return undefined;
  const isRead =
    desc.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS || desc.methodKind === "server_streaming" || READS.has(name);
  return isRead ? "read" : "write";
}
