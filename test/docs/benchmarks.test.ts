/** What the benchmarks and the pages made of their results say: a run without figures fails, and each row has its goal, its spread and its plot. */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { expect, test } from "vitest";
import { asksForAll } from "../../bench/_args.ts";
import { HttpWire } from "../../bench/_http.ts";
import { ComingAndGoing } from "../../bench/_joins.ts";
import { besideGoal } from "../../bench/_rates.ts";
import { cellText, type Goal, type Kept, quiet, ratioGoal, spread, type Verdict, verdict } from "../../bench/_results.ts";
import { inRounds } from "../../bench/_rounds.ts";
import { SECTIONS } from "../../bench/_sections.ts";
import { allPlots, featured, goalTable, inOrder } from "../../bench/_summary.ts";
import { filesBelow } from "../../scripts/imports.ts";

test("versions without a checkout to compare with is no run: it says so, and its exit code too", () => {
  const { status, stderr } = spawnSync("node", ["bench/versions.ts"], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringContaining("--other, a checkout to compare with") as string });
});

test.each([
  [["--watchers", "1,ten"], '--watchers: "ten" is not a number'],
  [["--rounds", "0"], '--rounds: "0" is not a number above 0'],
  [["--rounds"], "argument missing"],
  [["--round", "1"], "Unknown option '--round'"],
])("a wrong flag ends a benchmark before it starts anything: %j", (flags, message) => {
  const { status, stderr } = spawnSync("node", ["bench/watch.ts", ...flags], { encoding: "utf8" });
  expect(stderr).toContain(message);
  expect(stderr).toContain("The flags and their defaults: --watchers 1,1000,10000");
  expect(status).toBe(2);
});

test.each([
  [{ rate: 200, sizes: [10, 100], only: "" }, true],
  [{ rate: 400, sizes: [1, 10, 100], only: "" }, true],
  [{ rate: 100, sizes: [10, 100], only: "" }, false],
  [{ rate: 200, sizes: [100, 1000], only: "" }, false],
  [{ rate: 200, sizes: [10, 100], only: "a path" }, false],
  [{ rate: 200, sizes: [10, 100], only: "", quick: true }, false],
])("a result is kept only if no flag makes it weaker than its default: %j", (asked, isWhole) => {
  expect(asksForAll({ quick: false, ...asked }, { rate: 200, sizes: [10, 100], only: "", quick: false })).toBe(isWhole);
});

test("a request on a connection that the server has closed is refused: a benchmark that waited for its answer would never end", async () => {
  const server: Server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const wire = await HttpWire.open({ host: "127.0.0.1", port: typeof address === "object" && address !== null ? address.port : 0 });
  const [socket] = await accepted;
  const waiting = wire.request({ path: "/" });
  socket.destroy();
  await expect(waiting).rejects.toThrow("the server closed the connection");
  await expect(wire.request({ path: "/" })).rejects.toThrow("the server had closed the connection");
  expect(wire.isOpen).toBe(false);
  server.close();
});

/** 2,000 endpoints in 20 services, and what calls have made of them. */
function twentyServices() {
  const there = new Set(Array.from({ length: 2000 }, (_, k) => k));
  const everThere = new Set(there);
  const join = (k: number) => {
    expect(everThere).not.toContain(k);
    everThere.add(k);
    there.add(k);
    return Promise.resolve();
  };
  const leave = (k: number) => Promise.resolve(expect(there.delete(k)).toBe(true));
  const fleet = new ComingAndGoing({ join, leave }, { endpoints: 2000, services: 20 });
  const counts = () => [...Map.groupBy(there, (k) => k % 20).values()].map(({ length }) => length);
  return { fleet, there, counts };
}

test("endpoints that join each for itself are new, and the counts of services wander with them", async () => {
  const { fleet, there, counts } = twentyServices();
  expect(await fleet.eachForItself({ perSecond: 1e6, seconds: 0.004 })).toMatchObject({ count: 4000 });
  expect(new Set(fleet.present)).toEqual(there);
  const deviation = Math.sqrt(counts().reduce((sum, count) => sum + (count - 100) ** 2, 0) / 20);
  // Those who leave and come back keep the counts within 3 or so of where they were.
  expect(deviation).toBeGreaterThan(6);
});

test("service by service, each loses half of its endpoints or gets half as many more", async () => {
  const { fleet, there, counts } = twentyServices();
  await fleet.serviceByService({ perSecond: 1e6, seconds: 0.0002 });
  expect(new Set(fleet.present)).toEqual(there);
  expect(counts().toSorted((a, b) => a - b)).toEqual([50, 50, ...Array.from({ length: 16 }, () => 100), 150, 150]);
});

test.each([
  [0.000_123_7, "0.000124"],
  [0.0072757, "0.007"],
  [0, "0"],
  [1234.56, "1,235"],
])("a figure is told with the digits that matter, and a small one is not told as nothing: %j is %j", (value, text) => {
  expect(cellText(value)).toBe(text);
});

const kept = (name: string, goals: readonly Goal[]): Kept => ({
  name,
  goals,
  command: `npm run bench -- ${name}`,
  machine: { cpu: "a processor", cores: 2, memoryGiB: 24, kernel: "6.18", loadAverage: 0.1 },
  versions: { node: "v24", etcd: "v3.7.3" },
  commit: "0123456789ab",
  date: "2026-11-25T12:00",
  tables: {},
  notes: [],
});

const ONE_AT_A_TIME: Goal = {
  name: "lone register",
  value: 0.72,
  unit: "×",
  atLeast: 1.1,
  shown: {
    work: "a registration & its lease",
    beside: "etcd, a grant and a put",
    unit: "µs of CPU",
    ours: { median: 100, min: 90, max: 120 },
    theirs: { median: 72, min: 70, max: 75 },
    ratio: { median: 0.72, min: 0.6, max: 0.8 },
  },
};

test("a row has the work, the peer and its version, both figures, the ratio with its interval, the goal and the verdict; a goal without figures of both sides has its value", () => {
  const { shown } = ONE_AT_A_TIME;
  const withLimits = {
    ...ONE_AT_A_TIME,
    shown: { work: "", unit: "", ...shown, ratio: { median: 0.72, min: 0.6, max: 0.8, low: 0.65, high: 0.79 } },
  };
  const text = goalTable(kept("register", [{ name: "a value alone", value: 1, unit: "ms", atMost: 2 }, withLimits]));
  expect(text.split("\n").slice(2)).toEqual([
    "| a value alone | – | – | 1 ms | ≤ 2 ms | reached |",
    "| a registration & its lease | etcd, a grant and a put (v3.7.3) | Waymark 100 (90–120), etcd 72 (70–75) µs of CPU | 0.72 (0.65–0.79) × | ≥ 1.1 × | missed |",
  ]);
});

test("a peer that is not installed leaves a row without a figure, which says so", () => {
  const { ratio: _, theirs: __, ...shown } = ONE_AT_A_TIME.shown ?? { work: "", unit: "" };
  const text = goalTable(
    kept("register", [{ ...ONE_AT_A_TIME, value: undefined, note: "not measured: the peer is not installed", shown }]),
  );
  expect(text).toContain("| Waymark 100 (90–120) µs of CPU | – | ≥ 1.1 × | no verdict: not measured: the peer is not installed |");
});

test("what was not measured at all keeps its row, without a plot", () => {
  const { work = "", beside = "", unit = "" } = ONE_AT_A_TIME.shown ?? {};
  const goal = { ...ONE_AT_A_TIME, value: undefined, note: "not measured: the peer is not installed", shown: { work, beside, unit } };
  expect(goalTable(kept("register", [goal]))).toContain("| – | – | ≥ 1.1 × | no verdict: not measured: the peer is not installed |");
  expect(allPlots([kept("register", [goal])])).toEqual({});
});

const round = (min: number, median: number, max: number) => ({ median, min, max });
const ratio = (value: number, low: number, high: number): Goal => {
  const shown = { work: "w", beside: "etcd", unit: "ms", ours: 1, theirs: 1, ratio: round(low, value, high) };
  return { name: "g", value, unit: "×", atLeast: 1, shown };
};

const withInterval = (value: number, low: number, high: number): Goal => {
  const goal = ratio(value, 0.1, 10);
  return { ...goal, shown: { work: "w", unit: "ms", ratio: { ...round(0.1, value, 10), low, high } } };
};

test.each<[string, Goal, Verdict]>([
  ["its interval reaches it, whatever single rounds do", withInterval(1.2, 1, 1.4), "reached"],
  ["its interval does not", withInterval(0.8, 0.7, 0.99), "missed"],
  ["its interval lies on both sides", withInterval(1.2, 0.99, 1.4), "uncertain"],
  [
    "its interval reaches it and no round does",
    { ...withInterval(0.8, 0.5, 1.3), shown: { work: "w", unit: "ms", ratio: { ...round(0.6, 0.8, 0.9), low: 0.5, high: 1.3 } } },
    "missed",
  ],
  ["all rounds reach it", ratio(1.2, 1, 1.3), "reached"],
  ["no round does", ratio(0.8, 0.7, 0.99), "missed"],
  ["the median does and some round does not", ratio(1.2, 0.9, 1.3), "uncertain"],
  ["some round does and the median does not", ratio(0.9, 0.8, 1.1), "uncertain"],
  ["a limit is met", { name: "g", value: 20, unit: "ms", atMost: 20 }, "reached"],
  ["a limit is missed by less than the digits that are shown", { name: "g", value: 20.001, unit: "ms", atMost: 20 }, "missed"],
  ["nothing was measured", { name: "g", value: undefined, unit: "ms", atMost: 20 }, "no verdict"],
  ["what JSON made of no number", { name: "g", value: Number.NaN, unit: "ms", atMost: 20 }, "no verdict"],
])("a verdict where %s", (_, goal, wanted) => {
  expect(verdict(goal)).toBe(wanted);
});

test.each<[string, Goal, number, Verdict]>([
  ["a ratio that is reached on a quiet machine", ratio(1.2, 1.1, 1.3), 0.1, "reached"],
  ["a ratio that is reached on a busy one: others may have slowed the peer", ratio(1.2, 1.1, 1.3), 0.11, "no verdict"],
  ["a ratio that is missed on a busy one", ratio(0.8, 0.7, 0.9), 0.5, "no verdict"],
  ["a limit that is reached on a busy one all the same", { name: "g", value: 1, unit: "ms", atMost: 2 }, 0.5, "reached"],
  ["a limit that is missed on a busy one", { name: "g", value: 3, unit: "ms", atMost: 2 }, 0.5, "no verdict"],
])("by the clock: %s", (_, goal, others, wanted) => {
  expect(verdict(quiet(goal, others))).toBe(wanted);
});

const RATIO_SHOWN = { work: "a start", beside: "etcd", unit: "ms" };

test.each([
  ["the peer was measured", [round(1, 2, 3), round(4, 5, 6), round(2, 2.5, 3)], round(1, 2, 3), "a wish", 2],
  ["there were no rounds", [2, 5, 2.5], undefined, "a wish", 2],
  ["a row says in words that there is no peer", ["-", round(4, 5, 6), "not measured"], undefined, "no peer", undefined],
  ["nothing was measured", [undefined, undefined, undefined], undefined, "no peer", undefined],
] as const)("a goal for a ratio where %s", (_, [over, ours, theirs], rounds, note, value) => {
  const goal = ratioGoal({ name: "g", shown: RATIO_SHOWN, ratio: over, ours, theirs, atMost: 2, note: "a wish", missing: "no peer" });
  expect(goal).toEqual({ name: "g", unit: "×", atMost: 2, value, note, shown: expect.anything() as unknown });
  expect(goal.shown).toEqual({
    ...RATIO_SHOWN,
    ...(ours !== undefined && { ours }),
    ...(value !== undefined && { theirs }),
    ...(rounds && { ratio: rounds }),
  });
});

test("a goal without a figure says why there is none, and not what others took meanwhile", () => {
  const goal = ratioGoal({ name: "g", ratio: undefined, ours: 1, theirs: undefined, atMost: 2 });
  expect(quiet(goal, 0.5)).toEqual({ name: "g", unit: "×", atMost: 2, value: undefined, note: "not measured: the peer is not installed" });
});

test("the rate that was measured stands in what a row shows, not in the name of its goal", () => {
  const { name, shown } = besideGoal([], {
    name: "an exact query, each alone",
    work: "an exact query, each alone, 2,990 a second",
    row: "exact",
    program: "etcd",
    beside: "etcd, a range",
    rate: "low",
    atLeast: 1,
  });
  expect({ name, work: shown?.work }).toEqual({
    name: "an exact query, each alone, beside etcd, a range",
    work: "an exact query, each alone, 2,990 a second",
  });
});

test("the median of an even number of rounds lies between the middle two, and no digit is lost that a goal needs", () => {
  expect(spread([4, 1, 2, 10])).toEqual(round(1, 3, 10));
  expect(spread([1.9951])).toEqual(round(1.9951, 1.9951, 1.9951));
});

test("CPU a unit is that of the units that were done, where work goes in steps that are larger than what was asked for", async () => {
  let cpuMs = 0;
  const side = (step: number, unitMs: number) => ({
    measured: { name: "waymark", cpuMs: () => cpuMs } as const,
    work: (count: number) => {
      const units = Math.ceil(count / step) * step;
      cpuMs += units * unitMs;
      return Promise.resolve(units);
    },
  });
  const [fine = [], coarse = []] = await inRounds([side(1, 0.3), side(1000, 0.1)], 2);
  expect([...fine, ...coarse].map((us) => Math.round(us))).toEqual([300, 300, 100, 100]);
});

test("benchmarks stand in the order of a reader's interest, others after them by name", () => {
  const names = ["zeal", "restart", "codec", "query"];
  expect(inOrder(names.map((name) => kept(name, [ONE_AT_A_TIME]))).map(({ name }) => name)).toEqual(["query", "restart", "codec", "zeal"]);
});

test("every kept result has a section with its prose, and every section a result", () => {
  const results = readdirSync("bench/results").map((file) => file.replace(/\.json$/, ""));
  expect(Object.keys(SECTIONS).toSorted()).toEqual(results.toSorted());
});

test("the short page has six figures, each with its link to all figures, and one plot", () => {
  const page = readFileSync("docs/performance.md", "utf8");
  expect(page.match(/^\| \*\*/gm)).toHaveLength(6);
  expect(page.match(/\[All figures\]\(reference\/benchmarks\.md#[a-z-]+\)/g)).toHaveLength(6);
  expect(page.match(/!\[/g)).toHaveLength(1);
});

test("a goal whose plot the page shows is missing from all results: the page is not made without it", () => {
  expect(() => featured([kept("register", [ONE_AT_A_TIME])])).toThrow('no benchmark has the goal "an exact query of 10 entries');
});

test("a plot has a bar a side as long as its figure, its spread, and a line where a goal of our own stands", () => {
  const own: Goal = { name: "memory", value: 143, unit: "MiB", atMost: 100, shown: { work: "an empty node", unit: "MiB", ours: 143 } };
  const drawn = allPlots([kept("register", [ONE_AT_A_TIME]), kept("memory", [own])]);
  expect(Object.keys(drawn).toSorted()).toEqual(["memory-1.svg", "register-1.svg"]);
  const widths = [...(drawn["register-1.svg"] ?? "").matchAll(/<rect [^>]*width="(\d+)"/g)].map(([, width]) => Number(width));
  expect((widths[1] ?? 0) / (widths[0] ?? 1)).toBeCloseTo(0.72, 1);
  expect(drawn["register-1.svg"]).toContain(
    "<title>a registration &amp; its lease: Waymark 100 (90–120), etcd 72 (70–75) µs of CPU</title>",
  );
  expect(drawn["register-1.svg"]).not.toContain("stroke-dasharray");
  expect(drawn["memory-1.svg"]).toContain("stroke-dasharray");
});

test("what is written by hand claims no figure beside a peer: those stand in the generated rows", () => {
  const page = readFileSync("docs/performance.md", "utf8").replaceAll(/<!-- (figures) -->[^]*?<!-- \/\1 -->/g, "");
  const texts = { "docs/performance.md": page, "README.md": readFileSync("README.md", "utf8") };
  const guides = filesBelow(process.cwd(), "docs/guides", [".md"]).map((file) => [file, readFileSync(file, "utf8")] as const);
  const claims = [...Object.entries(texts), ...guides].flatMap(([file, text]) =>
    [...text.matchAll(/\d[\d.,]* (?:times (?:faster|cheaper)|µs of CPU|× (?:etcd|Consul|NATS))/g)].map(([claim]) => `${file}: ${claim}`),
  );
  expect(claims).toEqual([]);
});
