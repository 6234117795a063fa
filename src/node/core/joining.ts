/** Joins a node to others: builds its fabric from the settings, from its data on disk, and from the snapshot of other nodes' data. */
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import { configDigest } from "../../config/digest.ts";
import { isFabricOpen, wantsPeers } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import type { Border } from "../../fabric/borders/border.ts";
import { Fabric } from "../../fabric/fabric.ts";
import type { LinkChannel } from "../../fabric/links/channel.ts";
import { type ClusterTokens, PROTOCOL_VERSIONS } from "../../fabric/links/peer-auth.ts";
import type { FabricOptions } from "../../fabric/options.ts";
import type { MemberFacts } from "../../fabric/wire/messages.ts";
import type { Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import { peerAuthSettings } from "../fabric/options.ts";
import { hasSeeds, type RestoredRooms } from "./rooms.ts";
import type { SnapshotScheduleOptions } from "./snapshots.ts";
import { asOfMonoMs, resumeOrigins, type WarmStart } from "./warm-start.ts";
import { instanceOfNode, type NamedInstance } from "./write-eligibility.ts";

export interface JoiningParts {
  readonly settings: Settings;
  readonly options: FabricOptions;
  readonly rng: Rng;
  /** Address that this node advertises to other nodes, `host:port`. */
  readonly address: string;
  readonly tokens: ClusterTokens;
  /** Additional channels on the links between members, and on links to other regions. Empty when absent. */
  readonly channels?: readonly LinkChannel[];
  readonly borderChannels?: readonly LinkChannel[];
  /** Clusters of other regions that the settings name. Empty when absent. */
  readonly borders?: readonly Border[];
  readonly start: NamedInstance;
  /** Members of this node's cluster that were known before this start. */
  readonly remembered: readonly string[];
  /** Data restored from the snapshot of other nodes' data. Undefined when nothing was restored. */
  readonly warm: WarmStart | undefined;
  readonly snapshots: SnapshotScheduleOptions;
}

/**
 * Builds the fabric of a node and passes it to the node's machine. Must be called once, after the rows from the disk and the snapshot have been
 * restored.
 */
export function joinOthers(
  rooms: Pick<RestoredRooms, "hlc" | "identity" | "machine" | "regions" | "replica" | "stamper">,
  parts: JoiningParts,
  time: Time,
): Fabric {
  const { replica, stamper, hlc, machine, regions } = rooms;
  const { settings, options, rng, tokens, warm, remembered, snapshots } = parts;
  const facts = factsOf(rooms, parts);
  const fabric = new Fabric(options, {
    ...tokens,
    self: facts,
    replica,
    stamper,
    bounds: PROTOCOL_BOUNDS,
    hlc,
    rng,
    seeds: settings.fabric.seeds,
    isInsecure: settings.listen.insecure,
    isOpen: isFabricOpen(settings),
    runsChecks: settings.checks.enabled,
    policyFrom: settings.policy.acceptFrom,
    peerAuth: peerAuthSettings(settings),
    channels: parts.channels ?? [],
    borders: parts.borders ?? [],
    borderChannels: [...(parts.borderChannels ?? []), ...(regions === undefined ? [] : [regions.atBorders(() => fabric)])],
    summaries: regions?.replicated,
    asOfMonoMs: warm === undefined ? undefined : asOfMonoMs(warm, time),
    earlierBoots: parts.start.earlierBoots,
    acceptedStarts: warm?.starts,
    remembered,
  });
  if (warm !== undefined) resumeOrigins(fabric, warm, options.readiness.joinTimeoutMs, time);
  machine.join({ fabric, facts, superseded: warm?.superseded ?? [], snapshots });
  return fabric;
}

function factsOf(
  { identity, replica }: Pick<RestoredRooms, "identity" | "replica">,
  { settings, address, start }: JoiningParts,
): MemberFacts {
  const { nodeId, clusterId, region, zone, roles, version } = identity;
  return {
    nodeId,
    clusterId,
    region,
    zone,
    roles,
    version,
    generation: replica.self.generation,
    ...instanceOfNode(start),
    address,
    protocolVersions: PROTOCOL_VERSIONS,
    transports: ["h2"],
    labels: settings.node.labels,
    healthScore: 0,
    configDigest: configDigest(settings),
  };
}

/**
 * Whether a node without a policy hides everything. The node does so if it joins others for the first time, because the policy of its cluster may
 * hide entries. A node that was in sync with others before knows whether there was a policy.
 */
export function awaitsPolicy(settings: Pick<Settings, "fabric">, wasUpToDate: boolean): boolean {
  return hasSeeds(settings) && !wasUpToDate;
}

/** Whether other nodes may have a policy that this node lacks: either it is not ready yet, or it has no peers although its settings name some. */
export function mayBeOthers(
  settings: Settings,
  { isReady, fabric }: { readonly isReady: boolean; readonly fabric: Pick<Fabric, "readiness"> | undefined },
  time: Time,
): boolean {
  return !isReady || (wantsPeers(settings) && fabric?.readiness.read(time).reason === "alone");
}
