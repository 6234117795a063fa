/** Builds the lifecycle of origins and the freshness of a fabric from its other parts. */
import type { Origin } from "../catalog/record/stored-record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { Time } from "../lib/machine.ts";
import { Freshness } from "./freshness.ts";
import type { Membership } from "./membership/membership.ts";
import { OriginLifecycle, type OriginLifecycleOptions, type OriginLifecyclePorts } from "./origin-lifecycle.ts";
import type { Replicator } from "./replication/replicator.ts";
import type { SnapshotOrigin } from "./snapshot/codec.ts";

export interface OriginLifecycleParts {
  readonly replica: Replica;
  readonly clusterId: string;
  readonly membership: Membership;
  readonly replication: Replicator;
}

export function makeOriginLifecycle(
  options: OriginLifecycleOptions,
  { membership, replication, ...parts }: OriginLifecycleParts & Pick<OriginLifecyclePorts, "remembered" | "maxMembers">,
): OriginLifecycle {
  return new OriginLifecycle(options, {
    ...parts,
    findMember: (id) => membership.find(id),
    forgetOrigin: (origin, time, isOver) => replication.forgetOrigin(origin, time, isOver, 0),
    closed: (origin, time, out) => replication.closed(origin, time, out),
    swept: (time) => replication.disproved.step(time),
    hasTable: () => membership.hasJoined,
    wasHidden: (id) => replication.hiddenElsewhere.has(id),
    readmit: (id, generation) => replication.readmit(id, generation),
  });
}

export function makeFreshness({ replica, clusterId, membership, replication }: OriginLifecycleParts): Freshness {
  return new Freshness({
    nodeId: replica.self.nodeId,
    clusterId,
    members: () => membership.members(),
    findMember: (id) => membership.find(id),
    heartbeats: replication.heartbeats,
    holdsOf: (id) => replica.origins.values().some((origin) => origin.nodeId === id),
  });
}

/** The state of an origin, for a snapshot. */
export function standingOf(lifecycle: OriginLifecycle, origin: Origin, { monoMs, wallMs }: Time): SnapshotOrigin {
  const sinceMonoMs = lifecycle.absentSinceMonoMs(origin);
  const absentWallMs = sinceMonoMs === undefined ? undefined : wallMs - (monoMs - sinceMonoMs);
  return { life: origin.life, absentWallMs, isOver: lifecycle.isOver(origin) };
}
