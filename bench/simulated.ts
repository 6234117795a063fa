/**
 * What hundreds of nodes do, in virtual time: the simulator's scenarios (test/sim/scenarios.ts), and the traffic of membership alone. About two
 * minutes. `npm run bench -- simulated [--only changes,quiet] [--nodes 100] [--quiet-minutes 2] [--apart-minutes 1] [--changes 10] [--rounds 2]
 * [--crashes 3] [--members 50,200,1000] [--members-seconds 300] [--entries 2000] [--seed 7]`; `npm run nightly` holds the sizes of the goals (an
 * hour, partitions of ten minutes), and `--nodes 200 --quiet-minutes 60 --apart-minutes 10 --changes 40 --rounds 4 --crashes 20` tells their figures in a
 * quarter of an hour. With `--only` the figures are only told.
 */
import { World } from "../test/fabric/membership-world.ts";
import {
  changesSpread,
  churn,
  crashesAreKnown,
  joinsAndLeavesSpread,
  partitionHeals,
  quietHour,
  shapeConverges,
} from "../test/sim/scenarios.ts";
import { argsOf, asksForAll } from "./_args.ts";
import { type Goal, report, round } from "./_results.ts";

const DEFAULTS = {
  only: "",
  nodes: 100,
  "quiet-minutes": 2,
  "apart-minutes": 1,
  changes: 10,
  rounds: 2,
  crashes: 3,
  members: [50, 200, 1000],
  "members-seconds": 300,
  entries: 2000,
  seed: 7,
};
const values = argsOf(DEFAULTS);
const NODES = values.nodes;
const LOSS = 0.1;
const WORLD = { nodes: NODES, loss: LOSS, seed: values.seed };
const IN_WORLD = `${NODES} nodes, 10 % loss`;
/** Stands for "not within the time that the scenario gives it": JSON has no infinity. */
const NEVER_MS = 1e9;
/** Two gossip intervals. */
const TWO_INTERVALS_MS = 2000;

interface Measured {
  readonly rows: readonly Readonly<Record<string, unknown>>[];
  /** Named without the part, which is put before. */
  readonly goals: readonly Goal[];
}

/** CPU seconds of the process while a part ran, which is the simulator's alone. */
interface Spent {
  readonly cpuSeconds: number;
  readonly systemSeconds: number;
}

function atMostMs(name: string, ms: number, atMost: number): Goal {
  return Number.isFinite(ms)
    ? { name, value: round(ms), unit: "ms", atMost }
    : { name, value: NEVER_MS, unit: "ms", atMost, note: "not within the time given" };
}

function none(name: string, value: number, unit: string): Goal {
  return { name, value, unit, atMost: 0 };
}

function msText(ms: number): number | string {
  return Number.isFinite(ms) ? round(ms) : "never";
}

function changes(): Measured {
  const { p50Ms, p95Ms, maxMs, samples } = changesSpread({ ...WORLD, changes: values.changes });
  return {
    rows: [
      {
        nodes: NODES,
        loss: LOSS,
        changes: values.changes,
        samples,
        "p50 ms": msText(p50Ms),
        "p95 ms": msText(p95Ms),
        "all ms": msText(maxMs),
      },
    ],
    goals: [atMostMs(`at 95 % of ${IN_WORLD}`, p95Ms, 1000), atMostMs(`at all of ${IN_WORLD}`, maxMs, 2000)],
  };
}

function joinsAndLeaves(): Measured {
  const { joinP95Ms, joinMaxMs, leaveP95Ms, leaveMaxMs } = joinsAndLeavesSpread({ ...WORLD, rounds: values.rounds });
  const row = (what: string, p95Ms: number, allMs: number) => ({
    what,
    nodes: NODES,
    loss: LOSS,
    times: values.rounds,
    "p95 ms": msText(p95Ms),
    "all ms": msText(allMs),
  });
  return {
    rows: [row("a join", joinP95Ms, joinMaxMs), row("a leave", leaveP95Ms, leaveMaxMs)],
    goals: [
      atMostMs(`a join at 95 % of ${IN_WORLD}`, joinP95Ms, 1000),
      atMostMs("a join at all", joinMaxMs, 2000),
      atMostMs(`a leave at 95 % of ${IN_WORLD}`, leaveP95Ms, 1000),
      atMostMs("a leave at all", leaveMaxMs, 2000),
    ],
  };
}

/** Nothing happens. */
function quiet(spent: () => Spent): Measured {
  const minutes = values["quiet-minutes"];
  const result = quietHour({ ...WORLD, minutes });
  const { cpuSeconds, systemSeconds } = spent();
  // The scenario counts user time after the start; system time is counted from the start on.
  const minuteCpuSeconds = round((result.cpuSeconds + systemSeconds) / minutes);
  return {
    rows: [
      {
        nodes: NODES,
        loss: LOSS,
        "simulated minutes": minutes,
        "false deaths": result.falseDeaths,
        suspicions: result.suspicions,
        "all know all at the end": result.knowAll,
        "calls a node and second": result.callsPerNodeSecond,
        "call bytes": result.callBytesPerNodeSecond,
        "frames a node and second": result.framesPerNodeSecond,
        "frame bytes": result.frameBytesPerNodeSecond,
        events: result.events,
        "CPU s a minute": minuteCpuSeconds,
        "with the start, CPU s": round(cpuSeconds),
      },
    ],
    goals: [
      none(`false deaths in ${minutes} minutes, ${IN_WORLD}`, result.falseDeaths, "deaths"),
      { name: `CPU of a simulated minute of ${NODES} nodes`, value: minuteCpuSeconds, unit: "s", atMost: 10 },
    ],
  };
}

function deaths(): Measured {
  const { p50Ms, p95Ms, maxMs } = crashesAreKnown({ ...WORLD, crashes: values.crashes });
  return {
    rows: [{ nodes: NODES, loss: LOSS, deaths: values.crashes, "p50 ms": msText(p50Ms), "p95 ms": msText(p95Ms), "all ms": msText(maxMs) }],
    goals: [atMostMs(`known to all of ${IN_WORLD}`, maxMs, 10_000)],
  };
}

function partition(): Measured {
  const minutes = values["apart-minutes"];
  const healed = partitionHeals({ nodes: NODES, minutes, seed: WORLD.seed });
  const isApart = healed.aliveWhileApart === Math.floor(NODES / 2);
  const goal = atMostMs(
    `two halves of ${NODES}, ${minutes} minutes apart, equal after the links are there`,
    healed.equalAfterLinkedMs,
    TWO_INTERVALS_MS,
  );
  return {
    rows: [
      {
        nodes: NODES,
        "minutes apart": minutes,
        "alive to a node while apart": healed.aliveWhileApart,
        "links there after ms": msText(healed.linkedMs),
        "equal after that ms": msText(healed.equalAfterLinkedMs),
        "equal after healing ms": msText(healed.equalMs),
        "all know all after healing ms": msText(healed.membersMs),
      },
    ],
    goals: [isApart ? goal : { ...goal, value: undefined, note: "the halves were never apart" }],
  };
}

/** Messages and bytes that membership alone sends, a node and second, when nothing happens. */
function membership(): Measured {
  const seconds = values["members-seconds"];
  const rows = values.members.map((count) => {
    const world = new World({ seed: `size${count}` });
    world.isWatched = false;
    world.startMany(count, (i) => (i === 0 ? [] : ["n0"]));
    // Until the news of the start is told.
    world.runFor(600_000);
    const { messageCount, sizeBytes } = world;
    world.runFor(seconds * 1000);
    return {
      nodes: count,
      seconds,
      "messages a node and second": round((world.messageCount - messageCount) / count / seconds),
      "bytes a node and second": round((world.sizeBytes - sizeBytes) / count / seconds),
      "all know all": world.isConverged(),
    };
  });
  const [first, last] = [rows[0], rows.at(-1)];
  if (first === undefined || last === undefined || first === last) return { rows, goals: [] };
  const logarithms = round(Math.log(last.nodes) / Math.log(first.nodes));
  const growth = (column: "messages a node and second" | "bytes a node and second"): Goal => ({
    name: `${column}, ${last.nodes} nodes over ${first.nodes} (growth O(log n))`,
    value: round(last[column] / first[column]),
    unit: "×",
    atMost: logarithms,
  });
  return { rows, goals: [growth("messages a node and second"), growth("bytes a node and second")] };
}

/** Stars and several hubs: all start at once; a quarter leaves, a quarter dies, all come back. */
function shapes(): Measured {
  const sizes = [
    [8, 0],
    [20, 0],
    [50, 0],
    [8, 2],
    [20, 4],
    [50, 5],
  ] as const;
  const measured = sizes.map(([nodes, hubs]) => ({ nodes, hubs, ...shapeConverges({ nodes, hubs, seed: WORLD.seed }) }));
  const most = (of: (shape: (typeof measured)[number]) => number) => Math.max(...measured.map(of));
  return {
    rows: measured.map(({ nodes, hubs, ...shape }) => ({
      nodes,
      hubs: hubs === 0 ? "star" : hubs,
      "all know all after ms": msText(shape.joinedMs),
      links: shape.links,
      "nobody lists who left after ms": msText(shape.listedAfterLeaveMs),
      "nobody lists the dead after ms": msText(shape.deadKnownMs),
      "all back after ms": msText(shape.allBackMs),
    })),
    goals: [
      atMostMs(
        "all know all, the slowest of six",
        most(({ joinedMs }) => joinedMs),
        30_000,
      ),
      atMostMs(
        "nobody lists who left, the slowest of six",
        most(({ listedAfterLeaveMs }) => listedAfterLeaveMs),
        5000,
      ),
      atMostMs(
        "nobody lists the dead, the slowest of six",
        most(({ deadKnownMs }) => deadKnownMs),
        30_000,
      ),
    ],
  };
}

function churned(): Measured {
  const result = churn({ nodes: 5, entries: values.entries, minutes: 5, seed: WORLD.seed });
  return {
    rows: [
      {
        nodes: 5,
        clients: values.entries,
        minutes: 5,
        changes: result.changes,
        "entries at the end": result.entries,
        "replicas equal": result.isEqual,
        tombstones: result.tombstones,
        "slab MiB": round(result.slabBytes / 1024 / 1024),
        "watch bookmarks proven": result.bookmarks,
      },
    ],
    goals: [none("worlds whose replicas differ after 10 % a minute for 5 minutes", result.isEqual ? 0 : 1, "worlds")],
  };
}

const PARTS: Readonly<Record<string, (spent: () => Spent) => Measured>> = {
  changes,
  joins: joinsAndLeaves,
  quiet,
  deaths,
  partition,
  membership,
  shapes,
  churn: churned,
};

const wanted = values.only === "" ? Object.keys(PARTS) : values.only.split(",");
for (const part of wanted) {
  if (PARTS[part] !== undefined) continue;
  console.error(`--only: no part "${part}"; there are: ${Object.keys(PARTS).join(", ")}`);
  process.exit(2);
}
const measured = wanted.flatMap((part) => {
  const startCpu = process.cpuUsage();
  const spent = (): Spent => {
    const { user, system } = process.cpuUsage(startCpu);
    return { cpuSeconds: (user + system) / 1e6, systemSeconds: system / 1e6 };
  };
  const result = PARTS[part]?.(spent);
  if (result === undefined) return [];
  console.error(`${part}: ${round(spent().cpuSeconds)} s of CPU`);
  return [{ part, ...result }];
});
report({
  name: "simulated",
  isKept: asksForAll(values, DEFAULTS),
  tables: Object.fromEntries(measured.map(({ part, rows }) => [part, rows])),
  goals: measured.flatMap(({ part, goals }) => goals.map((goal) => ({ ...goal, name: `${part}: ${goal.name}` }))),
  notes: [
    "The real machines of the nodes (membership, links, replication, catalog) in one process under a virtual clock and a simulated network: times are virtual and do not depend on this machine, CPU seconds (user and system, of the whole process) do. Every run of a seed gives the same times, so they have no spread.",
    "A link delays 5 ms and carries 50 MB a second; loss is that of calls, and of links it is a delay, as with TCP. Gossip every second.",
    "A change is timed from its commit at its node; a join from the process's start and a leave from its goodbye, each until every other node has heard of it; a death from the silent loss of a machine. Each node that hears of it is one sample, a change's own node too.",
    'Shapes are first looked at 100 ms after a start or a return and 2.1 s after goodbyes, then every 100 ms: 0 is "by then".',
    "While halves are apart, two entries a node are registered on both sides. Equal is every replica holding all that every other node wrote; what differs takes milliseconds at the links' speed and is not granted on top of two gossip intervals.",
    "Membership is the machine of SWIM alone, no loss, after ten minutes; a call and its answer are two messages; 60 bytes of framing each are counted.",
  ],
});
