/**
 * Does what a node holds make its work cost more? CPU a unit of work at a node with 10,000 entries and at one with a million, in short rounds that
 * alternate: an exact query, a page of one namespace, a query by tag, a registration, and a change that one watch of many hears of.
 * `npm run bench -- growth [--few 10000] [--many 1000000] [--rounds 10]`; it takes about two minutes.
 */
import { argsOf, asksForAll } from "./_args.ts";
import { type Node, pinSelf, scratchDir, startNode } from "./_processes.ts";
import { type Goal, type Ratio, ratioOf, report, type Spread, spread } from "./_results.ts";
import { inRounds, type Side, type Work } from "./_rounds.ts";
import { Watchers } from "./_watchers.ts";
import {
  drive,
  exactQuery,
  fail,
  INSTANCES,
  loadNode,
  loadSmall,
  PATH,
  pageQuery,
  registerNumbers,
  SMALL,
  scattered,
  smallNamespace,
  tagQuery,
} from "./_work.ts";

const DEFAULTS = { few: 10_000, many: 1_000_000, rounds: 10 };
const values = argsOf(DEFAULTS);
const [FEW, MANY, ROUNDS] = [values.few, values.many, values.rounds];
const BATCH = 100;
/** Watches that each follow a service of their own. */
const WATCHES = 1000;

/** What is done at a node with so many entries. */
interface Path {
  readonly work: string;
  readonly unit: string;
  readonly open: (node: Node, entries: number) => Promise<Work>;
}

function calls(message: (i: number, entries: number) => Uint8Array): Path["open"] {
  return (node, entries) => {
    let next = 0;
    return Promise.resolve(async (count: number) => {
      await drive(node, PATH.query, { count, inFlight: 64, connections: 4, message: () => message(next++, entries) });
      return count;
    });
  };
}

/** New content for entries that are there, a hundred a request: side by side, or each drawn at random. */
function registering(isScattered: boolean): Path["open"] {
  return (node, entries) => {
    let next = 0;
    const batch = () => {
      if (isScattered) return [...new Set(Array.from({ length: BATCH }, () => scattered(next++, entries)))];
      const from = scattered(next++, entries / BATCH) * BATCH;
      return Array.from({ length: BATCH }, (_, i) => from + i);
    };
    return Promise.resolve(async (count: number) => {
      let done = 0;
      const message = () => {
        const numbers = batch();
        done += numbers.length;
        return registerNumbers(numbers, { version: next });
      };
      await drive(node, PATH.register, { count: Math.ceil(count / BATCH), inFlight: 8, connections: 4, message });
      return done;
    });
  };
}

/** To be closed before their nodes are stopped. */
const watching: Watchers[] = [];

/** Each change is heard by one watch of many. */
const narrowWatches: Path["open"] = async (node) => {
  const watchers = await Watchers.open(node, { entryBytes: 0, etcdValue: Buffer.alloc(0) }, WATCHES, "service");
  watching.push(watchers);
  return async (count) => {
    let done = 0;
    for (; done < count; done += WATCHES) await watchers.ownWave(32);
    return done;
  };
};

const PATHS: readonly Path[] = [
  {
    work: "an exact query of 10 entries",
    unit: "request",
    open: calls((i, entries) => exactQuery(scattered(i, entries / INSTANCES))),
  },
  {
    work: "a page of 100 inside one of many namespaces",
    unit: "request",
    open: calls((i) => pageQuery(100, smallNamespace(scattered(i, SMALL.namespaces)))),
  },
  { work: "a page of 10 by tag", unit: "request", open: calls(() => tagQuery(1, 10)) },
  { work: `a durable registration of ${BATCH} adjacent entries`, unit: "entry", open: registering(false) },
  { work: `a durable change that one of ${WATCHES.toLocaleString("en-US")} watches receives`, unit: "change", open: narrowWatches },
  { work: `a durable registration of ${BATCH} entries, each drawn at random`, unit: "entry", open: registering(true) },
];

interface Row extends Pick<Path, "work" | "unit"> {
  readonly few: Spread;
  readonly many: Spread;
  readonly ratio: Ratio;
}

async function nodeWith(entries: number): Promise<Node> {
  const node = await startNode({ dataDir: scratchDir("growth"), isPlain: true });
  await loadNode(node, entries);
  await loadSmall(node);
  return node;
}

async function compare(few: Node, many: Node, { open, ...path }: Path): Promise<Row> {
  console.error(path.work);
  const side = async (node: Node, entries: number): Promise<Side> => ({ measured: node, work: await open(node, entries) });
  const [atMany = [], atFew = []] = await inRounds([await side(many, MANY), await side(few, FEW)], ROUNDS);
  for (const watchers of watching.splice(0)) watchers.close();
  return { ...path, few: spread(atFew), many: spread(atMany), ratio: ratioOf(atMany, atFew) ?? fail() };
}

pinSelf();
const [few, many] = [await nodeWith(FEW), await nodeWith(MANY)];
const rows: Row[] = [];
for (const path of PATHS) rows.push(await compare(few, many, path));
for (const node of [few, many]) await node.stop("SIGKILL");

const [fewText, manyText] = [FEW.toLocaleString("en-US"), MANY.toLocaleString("en-US")];
const goals = rows.map(({ work, unit, few: theirs, many: ours, ratio }): Goal => {
  const beside = `Waymark at ${fewText} entries`;
  const names = { oursName: `${manyText} entries`, theirsName: `${fewText} entries` };
  const shown = { work: `${work}, at ${manyText} entries`, beside, unit: `µs of CPU per ${unit}`, ours, theirs, ratio, ...names };
  return {
    name: `${work}: CPU at ${manyText} entries over that at ${fewText}`,
    value: ratio.median,
    unit: "×",
    atMost: 1.2,
    shown,
  };
});
report({
  name: "growth",
  isKept: FEW === DEFAULTS.few && asksForAll(values, DEFAULTS),
  tables: {
    "CPU time per unit of work": rows.map(({ work, few: less, many: more, ratio }) => ({
      work,
      [`µs at ${fewText} entries`]: less,
      [`µs at ${manyText} entries`]: more,
      ratio,
    })),
  },
  goals,
  notes: [
    "Both nodes run on one core and write to disk. Rounds of a fifth of a second of CPU time alternate.",
    `Services and entries are chosen at random from all entries of a node. In addition there are ${SMALL.namespaces} namespaces of ${SMALL.entries} entries each, from which pages are read. ${INSTANCES * 100} entries have the tag.`,
    "A registration changes existing entries. Random entries of one request are on as many pages of the journal file, and each page is written; in a small catalog they share pages. The change that one watch receives includes its registration.",
  ],
});
process.exit();
