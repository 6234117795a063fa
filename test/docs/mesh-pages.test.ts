/** The pages about many nodes name only commands, flags, settings, metrics and scripts that there are. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ALL_VERBS as VERBS } from "../../src/cli/table/full.ts";
import { GLOBAL_FLAGS } from "../../src/cli/table/verbs.ts";
import { SETTING_ROWS } from "../../src/config/settings.ts";
import { METRICS } from "../../src/lib/metrics/metrics.ts";

const PAGES = [
  ...["clustering", "production", "install", "coming-from", "regions", "leaders", "peers"].map((page) => `docs/guides/${page}.md`),
  ...["replication", "faults"].map((page) => `docs/design/${page}.md`),
  "docs/reference/mesh.md",
  ...readdirSync("docs/runbooks").map((page) => `docs/runbooks/${page}`),
];

/** What is between back quotes, and each line of a block, without what follows in a pipe or as a comment. */
function codeOf(markdown: string): readonly string[] {
  const lines: string[] = [];
  let isBlock = false;
  for (const line of markdown.split("\n")) {
    if (line.startsWith("```")) isBlock = !isBlock;
    else if (isBlock) lines.push(line);
    else lines.push(...[...line.matchAll(/`([^`]+)`/g)].map(([, code]) => code ?? ""));
  }
  return lines;
}

/** Words after `waymark` of each command of a page. */
function commandsOf(markdown: string): readonly string[] {
  return codeOf(markdown).flatMap((code) => {
    const command = /(?:^|\s)(?:\.\/bin\/)?waymark ([a-z][^|#;]*)/.exec(code)?.[1]?.trim();
    return command === undefined ? [] : [command];
  });
}

/** What is wrong with a command; empty when nothing is. */
function faultOf(command: string): string {
  const words = command.split(/\s+/);
  const rows = VERBS.filter(({ path }) => path.split(" ").every((word, i) => words[i] === word));
  const verb = rows.toSorted((a, b) => b.path.length - a.path.length)[0];
  if (verb === undefined) return `there is no command ${command}`;
  const known = [...(verb.flags ?? []), ...GLOBAL_FLAGS].flatMap(({ flags }) =>
    flags.split(/[ ,]+/).filter((word) => word.startsWith("-")),
  );
  const unknown = words.filter((word) => /^--?[a-z]/.test(word) && !known.includes(word));
  return unknown.length > 0 ? `${verb.path} has no ${unknown.join(", ")}` : "";
}

test.each([
  { command: "mesh peers list -o wide", fault: "" },
  { command: "mesh peers lst", fault: "there is no command mesh peers lst" },
  { command: "discovery lag --link", fault: "discovery lag has no --link" },
])("a command that is not there would be found: $command", ({ command, fault }) => {
  expect(faultOf(command)).toBe(fault);
});

test("there are pages, and they have commands", () => {
  expect(PAGES.length).toBeGreaterThan(8);
  expect(PAGES.flatMap((page) => commandsOf(readFileSync(page, "utf8"))).length).toBeGreaterThan(30);
});

test.each(PAGES)("%s: every command and flag is there", (page) => {
  expect(
    commandsOf(readFileSync(page, "utf8"))
      .map(faultOf)
      .filter((fault) => fault !== ""),
  ).toEqual([]);
});

test.each(PAGES)("%s: every setting is there", (page) => {
  const groups = new Set(SETTING_ROWS.map(({ path }) => path.split(".")[0]));
  const named = codeOf(readFileSync(page, "utf8")).flatMap((code) => /^([a-z]+)\.[a-z][a-z_]*(?= =|$)/.exec(code)?.[0] ?? []);
  const settings = named.map((path) => path.trim()).filter((path) => groups.has(path.split(".")[0]) && !/\.(md|ts|toml)$/.test(path));
  expect(settings.filter((path) => !SETTING_ROWS.some((row) => row.path === path || row.path.startsWith(`${path}.`)))).toEqual([]);
});

test.each(PAGES)("%s: every metric of the mesh is there, and so is every script", (page) => {
  const text = readFileSync(page, "utf8");
  const metrics = [...text.matchAll(/`(mesh_[a-z_]+)(?:\{[a-z]+(?:="[a-z]+")?\})?`/g)].map(([, name]) => name ?? "");
  expect(metrics.filter((name) => !Object.hasOwn(METRICS, name))).toEqual([]);
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { readonly scripts: Readonly<Record<string, string>> };
  const run = [...text.matchAll(/npm run ([a-z:]+)/g)].map(([, name]) => name ?? "");
  expect(run.filter((name) => !Object.hasOwn(scripts, name))).toEqual([]);
});

test("the reference has a row for every metric of the mesh", () => {
  const page = readFileSync("docs/reference/mesh.md", "utf8");
  const metrics = Object.keys(METRICS).filter((name) => name.startsWith("mesh_"));
  expect(metrics.length).toBeGreaterThan(20);
  expect(metrics.filter((name) => !new RegExp(`\\b${name}\\b`).test(page))).toEqual([]);
});

test.each([
  { metric: "mesh_refused_total", causes: METRICS.mesh_refused_total.labels.what },
  { metric: "mesh_refused_updates_total", causes: METRICS.mesh_refused_updates_total.labels.reason },
])("every cause that $metric counts is explained", ({ causes }) => {
  const cells = readFileSync("docs/reference/mesh.md", "utf8")
    .split("\n")
    .flatMap((row) => /^\| (`[^|]*) \|/.exec(row)?.[1] ?? []);
  expect(causes.filter((cause) => !cells.some((cell) => cell.includes(`\`${cause}\``)))).toEqual([]);
});

/** Names of events are written where they happen, in the fabric or in the node. */
test("every event that the reference explains happens somewhere", () => {
  const files = ["src/node", "src/fabric"].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => readFileSync(`${folder}/${name}`, "utf8")),
  );
  const rows = readFileSync("docs/reference/mesh.md", "utf8")
    .split("\n")
    .filter((line) => /^\| `[a-z_]+`(, `[a-z_]+`)* \| (info|warn|error)/.test(line));
  const named = rows.flatMap((row) => [...(row.split("|")[1] ?? "").matchAll(/`([a-z_]+)`/g)].map(([, name]) => name ?? ""));
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((name) => !files.some((text) => text.includes(`"${name}"`)))).toEqual([]);
});
