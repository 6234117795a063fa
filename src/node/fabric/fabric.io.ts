/** The parts of the fabric that the rest of a node needs, and their replacement on a node without a fabric. */
import { configDigest } from "../../config/digest.ts";
import type { Settings } from "../../config/settings.ts";
import type { Time } from "../../lib/machine.ts";
import { lonePeerDirectory, type PeerDirectory } from "../../services/discovery/answer-age.ts";
import type { ListenerAddress } from "../../services/node-entry.ts";
import type { MemberDirectory } from "../../services/peers/members.ts";
import type { NodeComponent } from "../components.io.ts";
import type { NodeCore } from "../rooms.io.ts";

export interface NodeFabric {
  /** Address at which other nodes reach this one. Undefined without a fabric listener. */
  readonly listener: (Required<ListenerAddress> & { readonly address: string }) | undefined;
  readonly mesh: PeerDirectory;
  readonly peers: MemberDirectory;
  readonly component: NodeComponent;
}

/** Makes the replacement for a node without a fabric. */
export function loneFabric({ identity, replica, machine, driver, metrics }: NodeCore, settings: Settings, detail: string): NodeFabric {
  const mesh = lonePeerDirectory(identity.nodeId);
  const { nodeId, clusterId, region, zone, version, roles } = identity;
  const digest = configDigest(settings);
  const self = (time: Time) => ({
    ...NO_FABRIC_FIELDS,
    ...machine.drain.facts(),
    labels: { ...settings.node.labels, ...machine.drain.facts().labels },
    nodeId,
    clusterId,
    region,
    zone,
    version,
    roles,
    configDigest: digest,
    generation: replica.self.generation,
    lastSeenWallMs: time.wallMs,
  });
  return {
    listener: undefined,
    mesh,
    peers: {
      members: (time) => [self(time)],
      member: (nodeIdToFind, time) => (nodeIdToFind === nodeId ? self(time) : undefined),
      story: () => ({ events: [], suspicionEndsWallMs: undefined, confirmedBy: [] }),
      lag: () => ({
        ...ALONE_LAG,
        detail,
        isReady: machine.readiness.isServing,
        origins: [...replica.origins.values()].map((origin) => ({ ...origin, known: origin.through, refused: 0, whyPartial: "" })),
      }),
      follow: (onChange) => driver.follow(({ kind }) => kind === "selfChanged" && onChange(nodeId)),
    },
    // Checks start at this point, as on a node with a fabric.
    component: {
      start: () => driver.begin(),
      readiness: () => [{ name: "fabric", ok: true, detail }],
      observe: () => {
        metrics.set("mesh_gossip_queue_updates", {}, 0);
        metrics.set("mesh_gossip_fanout", {}, 0);
      },
    },
  };
}

/** Member fields of a node without a fabric, apart from its name and location. */
const NO_FABRIC_FIELDS = {
  address: "",
  status: "alive",
  incarnation: 0,
  accuser: "",
  protocolVersions: [],
  transports: [],
  healthScore: 0,
  rttMs: undefined,
  isSelf: true,
  isLinked: false,
} as const;
const ALONE_LAG = { isCaughtUp: true, isProtected: false, ageMs: 0, links: [] } as const;
