/** What the lives of origins, and the age of what is held, rest on in a fabric. */
import type { Replica } from "../catalog/replica.ts";
import { Freshness } from "./freshness.ts";
import { Lives } from "./lives.ts";
import type { LivesOptions } from "./lives-options.ts";
import type { Membership } from "./membership.ts";
import type { ReplicationShared } from "./replication-shared.ts";

export interface LifeParts {
  readonly replica: Replica;
  readonly clusterId: string;
  readonly membership: Membership;
  readonly replication: ReplicationShared;
}

export function makeLives(options: LivesOptions, { replica, clusterId, membership, replication }: LifeParts): Lives {
  return new Lives(options, {
    replica,
    clusterId,
    findMember: (id) => membership.find(id),
    forgetOrigin: (origin, time, isOver) => replication.forgetOrigin(origin, time, isOver, 0),
    closed: (origin, time, events) => replication.closed(origin, time, events),
    swept: (time) => replication.disproved.step(time),
    hasTable: () => membership.hasJoined,
    wasHidden: (id) => replication.hiddenElsewhere.has(id),
    readmit: (id, generation) => replication.readmit(id, generation),
  });
}

export function makeFreshness({ replica, clusterId, membership, replication }: LifeParts): Freshness {
  return new Freshness({
    nodeId: replica.self.nodeId,
    clusterId,
    members: () => membership.members(),
    findMember: (id) => membership.find(id),
    heartbeats: replication.heartbeats,
    holdsOf: (id) => replica.origins.values().some((origin) => origin.nodeId === id),
  });
}
