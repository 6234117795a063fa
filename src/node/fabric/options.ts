/** Settings and files → what the fabric is made of. */
import { randomBytes, X509Certificate } from "node:crypto";
import type { Settings } from "../../config/settings.ts";
import { Foreigners, type PeerAuthSettings, type Place } from "../../fabric/links/foreigners.ts";
import { LINKS_FIXED } from "../../fabric/links/options.ts";
import { type ClusterTokens, nodeOfCertificate } from "../../fabric/links/peer-auth.ts";
import { BASE_INTERVAL_MS, MEMBERSHIP_FIXED } from "../../fabric/membership/options.ts";
import { FABRIC_FIXED, type FabricOptions } from "../../fabric/options.ts";
import { ORIGIN_LIFECYCLE_FIXED } from "../../fabric/origin-lifecycle-options.ts";
import { POLICY_EXCHANGE_FIXED } from "../../fabric/policy-sync.ts";
import { READINESS_FIXED } from "../../fabric/readiness.ts";
import { REPLICATION_FIXED } from "../../fabric/replication/options.ts";
import type { FabricTls } from "../../fabric/transport/peer-identity.io.ts";
import { MAX_PEM_BYTES, MAX_TOKEN_FILE_BYTES, readNamedFile } from "../../lib/named-file.io.ts";
import { Rng } from "../../lib/rng.ts";

/** A random source for machines, seeded from the system's secure one. */
export function secretRng(): Rng {
  return new Rng(randomBytes(16).toString("hex"));
}

/** The options of the fabric: the settings, and what is not a setting. */
export function fabricOptions({ fabric, node }: Settings): FabricOptions {
  const { intervalMs, suspicionMultiplier: suspicionMult, suspicionMinMs, maxLinks, maxClockSkewMs } = fabric;
  const scaled = (lengthMs: number) => Math.round((lengthMs * intervalMs) / BASE_INTERVAL_MS);
  const suspicionCapMs = scaled(MEMBERSHIP_FIXED.suspicionCapMs);
  const suspicionFloorMs = scaled(MEMBERSHIP_FIXED.suspicionFloorMs);
  // Nodes that vanish together are called dead within the longest suspicion of each other.
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

/** Least time in which the fabric may end its links, however short a stop is to be. */
const MIN_STOP_MS = 1000;

export function peerAuthSettings({ fabric }: Settings): PeerAuthSettings {
  return { mode: fabric.trust, clusters: fabric.clusters, hasCertificates: fabric.certFile !== undefined };
}

/** Whether nodes of a place are foreign to one here, by the settings. */
export function foreignTo(here: Place, settings: Settings): (place: Place) => boolean {
  const foreigners = new Foreigners(here, peerAuthSettings(settings), () => false);
  return (place) => foreigners.refusalOf(place) !== undefined;
}

/** Lines of the token file: the token, and while it is changed the old or the new one. */
const MAX_TOKENS = 2;

/** The token of the file's first line, and that of its second if it has one; the message names the file and never what is in it. */
export function readClusterTokens({ fabric }: Settings): ClusterTokens {
  const path = fabric.clusterTokenFile;
  if (path === undefined) return { clusterToken: "" };
  const lines = readNamedFile({ setting: "fabric.cluster_token_file", path, maxBytes: MAX_TOKEN_FILE_BYTES })
    .toString("utf8")
    .split(/\r?\n/, MAX_TOKENS + 2);
  if (lines.at(-1) === "") lines.pop();
  const [clusterToken, otherToken] = lines;
  const areTokens = lines.every((line) => /^[\x21-\x7e]{16,1024}$/.test(line));
  if (clusterToken !== undefined && lines.length <= MAX_TOKENS && areTokens) return { clusterToken, otherToken };
  throw new Error(
    `fabric.cluster_token_file: ${path} does not hold one or two lines of 16 to 1024 printable ASCII characters without spaces`,
  );
}

interface Named {
  /** Undefined where it is not known yet: then any node's of the cluster will do. */
  readonly nodeId: string | undefined;
  readonly clusterId: string;
}

/** Certificates of the fabric; undefined for plain connections. Throws when they are of another node. */
export function readFabricTls({ fabric }: Settings, self: Named): FabricTls | undefined {
  const { certFile, keyFile, caFile } = fabric;
  if (certFile === undefined || keyFile === undefined || caFile === undefined) return undefined;
  const cert = readPem("fabric.cert_file", certFile);
  const named = nodeOfCertificate(new X509Certificate(cert).subjectAltName ?? "");
  const { nodeId = named?.nodeId ?? "with an id of its own", clusterId } = self;
  if (named?.nodeId !== nodeId || named.clusterId !== clusterId) {
    const has = named === undefined ? "names no node" : `is of node ${named.nodeId} of cluster ${named.clusterId}`;
    throw new Error(
      `fabric.cert_file: ${certFile} ${has}, and this is node ${nodeId} of cluster ${clusterId}: ` +
        "it must have one URI, spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>",
    );
  }
  return { cert, key: readPem("fabric.key_file", keyFile), clientCa: readPem("fabric.ca_file", caFile) };
}

function readPem(setting: string, path: string): Buffer {
  return readNamedFile({ setting, path, maxBytes: MAX_PEM_BYTES });
}
