/** The parts of the fabric: this file builds all of them and contains the only list of them. */
import { relationOf } from "../catalog/entry/scope.ts";
import { NEVER } from "../lib/machine.ts";
import { MachineParts } from "../lib/machine-part.ts";
import { Borders, type BordersParts } from "./borders/borders.ts";
import { DataFreshness } from "./data-freshness.ts";
import { GracefulLeave, GracefulStop } from "./graceful-leave.ts";
import type { LinkId } from "./io-types.ts";
import { CallGuard } from "./links/call-guard.ts";
import type { LinkChannel } from "./links/channel.ts";
import { EVERY_CLUSTER, ForeignPeers } from "./links/foreign-peers.ts";
import { Links } from "./links/links.ts";
import { LinksPart } from "./links/links-part.ts";
import { Multiplexer } from "./links/multiplexer.ts";
import { type PeerAuthFacts, refusalOfStart } from "./links/peer-auth.ts";
import { MaintenanceCalls } from "./maintenance-calls.ts";
import { isListed } from "./membership/members.ts";
import { Membership } from "./membership/membership.ts";
import { LostWords, MembershipPart, withBorders } from "./membership-part.ts";
import type { FabricOptions, FabricParts } from "./options.ts";
import { OriginLifecycle } from "./origin-lifecycle.ts";
import type { FabricPart, FabricPartList } from "./part.ts";
import { PolicyOfferSources } from "./policy-offer-sources.ts";
import { PolicyExchange } from "./policy-sync.ts";
import { FabricReadiness } from "./readiness.ts";
import { ReplicationChannel } from "./replication/link-replication.ts";
import { Replicator } from "./replication/replicator.ts";
import { SummaryChannel } from "./summaries/channel.ts";

/** All parts of the fabric. */
export type FabricRooms = ReturnType<typeof roomsOf>;

export function roomsOf(options: FabricOptions, parts: FabricParts) {
  const { self, replica, stamper, bounds, hlc, rng, clusterToken, otherToken, isInsecure, peerAuth: trust = EVERY_CLUSTER } = parts;
  const { nodeId, clusterId, region } = self;
  const here = { clusterId, region };
  const facts = () => ({ ...(membership.find(nodeId) ?? self), generation: replica.self.generation });
  const list: FabricPartList = new MachineParts();
  const seal = { isClosed: false };
  const foreignPeers = new ForeignPeers(here, trust, (id) => isListed(membership.find(id)?.status ?? "dead"));
  const peerAuth: PeerAuthFacts = { nodeId, clusterId, region, clusterToken, otherToken, isInsecure, seal, foreignPeers };
  const policySources = new PolicyOfferSources({ clusterId, acceptFrom: parts.policyFrom ?? [], isOpen: parts.isOpen === true });
  const { borders: named = [], borderChannels = [], channels: others = [], runsChecks = false } = parts;
  const onCounts: BordersParts["onCounts"] = (counts, time, out) => list.deliver({ kind: "borderCounts", counts }, time, out);
  const atBorders = { here, nodeId, self: facts, rng: rng.fork("borders"), borders: named, channels: borderChannels, onCounts };
  const borders = new Borders(options.borders, atBorders);
  const announced = withBorders(self, borders.counts);
  const membership = new Membership(announced, rng.fork("membership"), options.membership, { ...parts, foreignPeers });
  const links = new Links(options.links, {
    self: facts,
    members: () => membership.listed(),
    facts: () => ({
      isReady: readiness.isReady,
      runsChecks,
      holdsSummaries: summaries !== undefined,
      policyFrom: policySources.acceptedOthers,
    }),
    peerAuth,
    refusalOfStart: (hello, time) => refusalOfStart(hello, membership.startOf(hello, time)),
    isStranger: (hello) => membership.isStranger(hello),
    rng: rng.fork("links"),
  });
  const shared = { replica, stamper, bounds, hlc, rng: rng.fork("replication"), place: here, foreignPeers, members: membership };
  const replication = new Replicator({ ...shared, options: options.replication });
  const policy = new PolicyExchange(options.policy, {
    sourceOf: (id) => policySources.of(id),
    wake: () => multiplexer.wake(),
  });
  const isHeld = (link: LinkId) => policy.isBehind(link);
  const exchanges = new ReplicationChannel(replication, isHeld);
  const second = { ...shared, rng: rng.fork("summaries"), foreigners: foreignPeers, isHeld, options: options.replication };
  const summaries = parts.summaries && new SummaryChannel({ ...second, ...parts.summaries });
  const isAllSent = (link: LinkId) => !isHeld(link) && replication.edgeDueMonoMs === NEVER;
  // A cordoned node accepts no entries of others.
  const mayTakeOver = () => readiness.isReady && (membership.find(nodeId)?.desired ?? "") === "";
  const leaving = new GracefulLeave(clusterId, mayTakeOver, isAllSent);
  // The policy comes first, because a newcomer is not ready until it has the policy.
  const channels: readonly LinkChannel[] = [policy, exchanges, summaries ?? [], leaving, others].flat();
  const multiplexer = new Multiplexer(channels);
  const { maxMembers } = options.membership;
  const onChanged = () => freshness.changed();
  const lifecycle = new OriginLifecycle(options.lifecycle, { ...parts, clusterId, membership, replication, maxMembers, onChanged });
  const holdsOf = (id: string) => replica.origins.values().some((origin) => origin.nodeId === id);
  const { roster } = lifecycle;
  const freshness = new DataFreshness({ nodeId, clusterId, membership, heartbeats: replication.heartbeats, holdsOf, roster });
  const hasSeeds = parts.seeds.some((seed) => seed !== self.address);
  const age = { freshness, asOfMonoMs: parts.asOfMonoMs, mayBeBehind: () => lifecycle.isAnybodyElsewhere };
  const readiness = new FabricReadiness(options.readiness, { ...age, hasSeeds });
  const calls = new CallGuard(peerAuth);
  const common = { list, options, parts, seal, peerAuth, calls, foreignPeers, policySources, borders, membership, links, multiplexer };
  return { ...common, replication, policy, exchanges, summaries, leaving, channels, lifecycle, freshness, readiness };
}

/**
 * Fills the list with the parts, in the order in which they work. A new part needs a row in this list, and a new channel needs a row in `channels`
 * above.
 */
export function addParts(rooms: FabricRooms): GracefulStop {
  const { list, membership, replication, parts } = rooms;
  const { self, replica } = parts;
  const { nodeId, clusterId, region } = self;
  const lost = new LostWords({ replica, clusterId, members: membership, replication });
  const ref = () => ({ nodeId, generation: replica.self.generation, clusterId, region });
  const membershipPart = new MembershipPart({ ...rooms, lost }, parts);
  const linksPart = new LinksPart(rooms);
  const stopping = new GracefulStop(rooms.options, { ...rooms, linksPart, membershipPart });
  list.add([
    guardRow(rooms),
    membershipPart,
    new MaintenanceCalls({ self: ref, find: (id) => membership.find(id) }),
    linksPart,
    ...rooms.channels,
    replicationRow(rooms),
    rooms.lifecycle,
    rooms.freshness,
    lost,
    readinessRow(rooms),
    channelsRow(rooms),
    bordersRow(rooms),
    stopping,
    caughtUpRow(rooms),
  ]);
  return stopping;
}

/** Hides calls from unknown callers and responses from foreign nodes from all other parts. */
function guardRow({ calls, list }: FabricRooms): FabricPart {
  return {
    handle: {
      asked: (asked, time, out) => {
        if (calls.admits(asked, time, out)) list.deliver({ ...asked, kind: "called" }, time, out);
      },
      answered: (answered, time, out) => list.deliver({ ...calls.filterAnswer(answered, time, out), kind: "replied" }, time, out),
    },
  };
}

function replicationRow({ foreignPeers, replication }: FabricRooms): FabricPart {
  return {
    handle: {
      up: ({ hello }, _, out) => foreignPeers.admitted(hello, out),
      memberChanged: ({ update: { nodeId, generation } }) => {
        if (foreignPeers.forget(nodeId)) replication.reconsider(nodeId, generation);
      },
    },
    postpone: (byMs) => replication.postpone(byMs),
  };
}

function readinessRow({ readiness, freshness, membership, parts }: FabricRooms): FabricPart {
  let hasPeers = false;
  return {
    handle: {
      wanted: ({ nodeIds }, time) => freshness.want(nodeIds, readiness.knownMonoMs(time), time),
      members: () => {
        hasPeers = membership.listed().some(({ nodeId }) => nodeId !== parts.self.nodeId);
      },
      turnedAway: (met, time) => readiness.met(met, time),
      letIn: (met, time) => readiness.met(met, time),
    },
    look: (time) => readiness.tick({ hasPeers, areSeedsTried: membership.areSeedsTried }, time),
    nextDeadlineMs: () => readiness.nextDeadlineMs(),
    postpone: (byMs) => readiness.postpone(byMs),
  };
}

function channelsRow({ multiplexer, links, peerAuth }: FabricRooms): FabricPart {
  return {
    handle: {
      up: ({ link, hello, greetedMonoMs }, time, out) =>
        multiplexer.open(link, { hello, relation: relationOf(peerAuth, hello), greetedMonoMs }, time, out),
      down: ({ link }) => multiplexer.close(link),
      memberChanged: () => multiplexer.wake(),
    },
    look: (time, out) => multiplexer.tick(time, { isStopping: links.isStopping }, out),
    nextDeadlineMs: () => multiplexer.nextDeadlineMs(),
  };
}

function bordersRow({ borders, membership, readiness }: FabricRooms): FabricPart {
  // Whether the other border nodes of the region are known. Before they are known, each border node would assume that it is the only one.
  let hasBegun = false;
  return {
    handle: {
      up: ({ hello }, time, out) => borders.isBack(hello.nodeId, time, out),
      down: ({ hello, goodbye }, time, out) => {
        if (goodbye === "restart" || goodbye === "leave") borders.saidGoodbye(hello.nodeId, time, out);
      },
      members: (_, time, out) => {
        if (hasBegun) borders.know(membership.listed(), time, out);
      },
    },
    look: (time, out) => {
      if (!hasBegun && readiness.isReady) {
        hasBegun = true;
        borders.know(membership.listed(), time, out);
      }
      borders.tick(time, out);
    },
    nextDeadlineMs: () => borders.nextDeadlineMs(),
    postpone: (byMs) => borders.postpone(byMs),
  };
}

/** This part comes last, because the channels' work may have brought this node in sync. */
function caughtUpRow({ readiness, policySources, policy, multiplexer, membership, options, parts }: FabricRooms): FabricPart {
  const { maxLinks } = options.links;
  return {
    look: (time) => {
      if (readiness.hasCaughtUp) return;
      const members = { listed: membership.listed(), region: parts.self.region };
      const hasPolicy = policy.head.number > 0;
      readiness.caughtUpWith(policySources.caughtUp(multiplexer.caughtUpWith(), members, { hasPolicy, maxLinks }), time);
    },
  };
}
