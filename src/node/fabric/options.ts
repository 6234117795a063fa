/** Makes the options of the fabric from the settings. */
import type { Settings } from "../../config/settings.ts";
import { BORDER_LINKS_FIXED } from "../../fabric/borders/border.ts";
import { type ClusterLocation, ForeignPeers, type PeerAuthSettings } from "../../fabric/links/foreign-peers.ts";
import { LINKS_FIXED } from "../../fabric/links/options.ts";
import { BASE_INTERVAL_MS, MEMBERSHIP_FIXED } from "../../fabric/membership/options.ts";
import { FABRIC_FIXED, type FabricOptions } from "../../fabric/options.ts";
import { ORIGIN_LIFECYCLE_FIXED } from "../../fabric/origin-lifecycle.ts";
import { POLICY_EXCHANGE_FIXED } from "../../fabric/policy-sync.ts";
import { READINESS_FIXED } from "../../fabric/readiness.ts";
import { REPLICATION_FIXED } from "../../fabric/replication/options.ts";

/** Returns the options of the fabric, both from the settings and with fixed values. */
export function fabricOptions({ fabric, node }: Settings): FabricOptions {
  const { intervalMs, suspicionMultiplier: suspicionMult, suspicionMinMs, maxLinks, maxClockSkewMs } = fabric;
  const scaled = (lengthMs: number) => Math.round((lengthMs * intervalMs) / BASE_INTERVAL_MS);
  const suspicionCapMs = scaled(MEMBERSHIP_FIXED.suspicionCapMs);
  const suspicionFloorMs = scaled(MEMBERSHIP_FIXED.suspicionFloorMs);
  // Nodes that vanish at the same time are declared dead within one maximum suspicion timeout of each other.
  const leastSuspicionMs = Math.max(suspicionMult * intervalMs, suspicionMinMs, suspicionCapMs, suspicionFloorMs);
  return {
    ...FABRIC_FIXED,
    membership: {
      ...MEMBERSHIP_FIXED,
      maxClockSkewMs,
      intervalMs,
      pingTimeoutMs: fabric.pingTimeoutMs,
      fanout: fabric.fanout,
      retransmitMult: fabric.retransmitMultiplier,
      refreshMs: fabric.metadataRefreshMs,
      suspicionMult,
      suspicionMinMs,
      suspicionCapMs,
      suspicionFloorMs,
      gossipMs: scaled(MEMBERSHIP_FIXED.gossipMs),
      reconnectMs: scaled(MEMBERSHIP_FIXED.reconnectMs),
    },
    links: {
      ...LINKS_FIXED,
      maxLinks,
      maxTotalLinks: Math.max(LINKS_FIXED.maxTotalLinks, 3 * maxLinks),
      maxIncomingLinks: Math.max(LINKS_FIXED.maxIncomingLinks, 2 * maxLinks),
    },
    borders: BORDER_LINKS_FIXED,
    replication: { ...REPLICATION_FIXED, maxClockSkewMs, maxOriginRecords: fabric.maxOriginRecords },
    lifecycle: {
      ...ORIGIN_LIFECYCLE_FIXED,
      suspicionWindowMs: Math.max(ORIGIN_LIFECYCLE_FIXED.suspicionWindowMs, MEMBERSHIP_FIXED.suspicionMaxMult * leastSuspicionMs),
      orphanGraceMs: fabric.orphanGraceMs,
      originForgetMs: fabric.originForgetMs,
      orphanProtectRatio: fabric.orphanProtectRatio,
    },
    readiness: { ...READINESS_FIXED, joinTimeoutMs: fabric.joinTimeoutMs },
    policy: POLICY_EXCHANGE_FIXED,
    stopTimeoutMs: Math.max(MIN_STOP_MS, node.stopTimeoutMs),
  };
}

/** Minimum time that the fabric gets to close its links, in ms, even if the stop timeout is shorter. */
const MIN_STOP_MS = 1000;

export function peerAuthSettings({ fabric }: Settings): PeerAuthSettings {
  return { mode: fabric.trust, clusters: fabric.clusters, hasCertificates: fabric.certFile !== undefined };
}

/** Returns a function that decides from the settings whether nodes at a location are foreign to this node. */
export function foreignTo(here: ClusterLocation, settings: Settings): (place: ClusterLocation) => boolean {
  const foreignPeers = new ForeignPeers(here, peerAuthSettings(settings), () => false);
  return (place) => foreignPeers.refusalOf(place) !== undefined;
}
