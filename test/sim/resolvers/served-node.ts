/** A simulated node as a server of resolvers and of clients, and what it shows by the naive look of `reads.ts`. */
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import type { KeyText } from "../../../src/catalog/record/record.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { checkCaughtUp } from "../../../src/node/core/write-eligibility.ts";
import { lineOf } from "../../fakes/model.ts";
import { ownedAt } from "../reads.ts";
import type { SimNode, SimProcess } from "../sim-node.ts";
import type { History, Shown, ShownEntry } from "./history.ts";
import type { Serving } from "./server.ts";

/** The process of a node that runs now. */
export function servingNode(node: SimNode, history: History): Serving {
  const { process } = node;
  if (process === undefined || process.isClosed) throw new WaymarkError("not_ready", "it stops");
  const { machine, fabric, rooms } = process;
  return {
    parts: {
      ...rooms,
      loads: rooms.registrar.loads,
      endedStaticCount: () => 0,
      mesh: {
        ageMs: (time) => machine.ageMs(time),
        unreachable: (time) => fabric.unreachable(time),
        hasPeers: () => fabric.hasClusterPeers,
      },
      isReady: () => machine.readiness.isWhole,
      checkCaughtUp: () => checkCaughtUp(machine.readiness.isReady),
      checkStart: () => machine.writeEligibility.checkStart(),
      caughtUp: undefined,
      now: () => process.time(),
      random: () => 0.5,
      allowsViewerOverride: false,
      metrics: new Metrics(),
      isTls: true,
      onRead: () => {},
    },
    policies: process.policies,
    get isOver() {
      return process.isStopped;
    },
    time: () => process.time(),
    encodedAt: (place) => {
      const bytes = process.tasks.encodedAt(place);
      if (bytes !== undefined) history.noteVersion(place, bytes);
      return bytes;
    },
    shownAt: (cursor) => {
      const shown = shownAt(process);
      history.notePlace(cursor, shown);
      return shown;
    },
    ageOf: () => undefined,
    watched: () => () => {},
    isWhole: () => machine.readiness.isWhole,
  };
}

/** What a node shows to all who may see its namespaces, without LOCAL entries: a LOCAL entry hides here what other nodes show. */
function shownAt(process: SimProcess): Shown {
  const shown = new Map<KeyText, ShownEntry>();
  for (const record of ownedAt(process.place))
    if (record.scope !== SCOPE.LOCAL) shown.set(record.key, { namespace: record.namespace, line: lineOf(record.key, record) });
  return shown;
}
