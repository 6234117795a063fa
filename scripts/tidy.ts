/**
 * The source's own rules that no linter knows. Each function reads a tree and returns its faults, one line each, so that
 * `test/tidy.test.ts` can run them on this project and `test/checks.test.ts` on trees with planted faults.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { filesBelow, importsOf, withoutComments } from "./imports.ts";
import { FENCES, FOLDERS, isPure, ROOMS, roomOf } from "./rooms.ts";

function read(root: string, file: string): string {
  return readFileSync(join(root, file), "utf8");
}

/** `file:line: said` for every match of `pattern` in the text. */
function matchesOf(file: string, text: string, pattern: RegExp, says: (match: string) => string): readonly string[] {
  return [...text.matchAll(pattern)].map((match) => {
    const line = text.slice(0, match.index).split("\n").length;
    return `${file}:${line}: ${says(match[0].trim())}`;
  });
}

function sources(root: string): readonly string[] {
  return filesBelow(root, "src", [".ts"]);
}

/** Imports point down the list of rooms, and fenced libraries are imported where `rooms.ts` says. */
export function roomFaults(root: string): readonly string[] {
  const unknown = sources(root).filter((file) => ROOMS[roomOf(file)] === undefined);
  const arrows = sources(root).flatMap((file) =>
    importsOf(root, file).flatMap((each) => {
      const faults: string[] = [];
      const [source, target] = [roomOf(file), each.file?.startsWith("src/") === true ? roomOf(each.file) : undefined];
      if (target !== undefined && target !== source && ROOMS[source]?.includes(target) === false) {
        faults.push(`${file}: ${source} may not import ${target} (${each.specifier})`);
      }
      const said = each.file ?? each.specifier;
      for (const fence of FENCES) {
        const [start = "", end] = fence.specifier.split("*");
        const isMeant = end === undefined ? said === start : said.startsWith(start) && said.endsWith(end);
        if (isMeant && !fence.allowed.test(file)) faults.push(`${file}: imports ${each.specifier}: ${fence.why}`);
      }
      return faults;
    }),
  );
  return [...unknown.map((file) => `${file}: ${roomOf(file)} is not a room of scripts/rooms.ts`), ...arrows];
}

/** What oxlint cannot say of pure files: no `async`, no `new Date()`, nothing that depends on a locale. */
export function pureFaults(root: string): readonly string[] {
  return sources(root)
    .filter(isPure)
    .flatMap((file) =>
      matchesOf(
        file,
        withoutComments(read(root, file)),
        /\basync\s+(?:function|\(|\w+\s*(?:\(|=>))|\bawait\s|\bnew Date\(\s*\)|\.(?:localeCompare|toLocale\w*)\(/g,
        (match) => `a pure file says \`${match}\``,
      ),
    );
}

/**
 * Every pure file with code in it is reached by a test of its room: imported by it, or by what it imports. Which of its lines run, coverage
 * says. A file of types has nothing to run.
 */
export function unreachedFiles(root: string): readonly string[] {
  const targets = new Map<string, readonly string[]>();
  const targetsOf = (file: string): readonly string[] => {
    const known = targets.get(file);
    if (known !== undefined) return known;
    const found = importsOf(root, file).flatMap((each) => each.file ?? []);
    const there = found.filter((target) => existsSync(join(root, target)));
    targets.set(file, there);
    return there;
  };
  const reached = new Set<string>();
  for (const [room, tests] of Map.groupBy(filesBelow(root, "test", [".test.ts"]), roomOf)) {
    const seen = new Set(tests);
    for (const file of seen) for (const target of targetsOf(file)) seen.add(target);
    for (const file of seen) if (file.startsWith("src/") && roomOf(file) === room) reached.add(file);
  }
  return sources(root)
    .filter((file) => isPure(file) && /^export (?:abstract )?(?:function|class|const|let)\b/m.test(read(root, file)))
    .filter((file) => !reached.has(file))
    .map((file) => `${file} is reached by no test of its room`);
}

/** Files of `src` that no process, no thread and no user of the package loads. These start at the entries of `knip.json`. Knip itself counts what a test imports as used. */
export function unusedFiles(root: string): readonly string[] {
  const { entry } = JSON.parse(read(root, "knip.json")) as { readonly entry: readonly string[] };
  const files = sources(root);
  const starts = entry.filter((pattern) => pattern.startsWith("src/"));
  const reached = new Set(files.filter((file) => starts.some((start) => posix.matchesGlob(file, start))));
  for (const file of reached)
    for (const each of importsOf(root, file)) if (each.file !== undefined && files.includes(each.file)) reached.add(each.file);
  return files.filter((file) => !reached.has(file)).map((file) => `${file} is imported by tests alone`);
}

/** The files that join the rooms of a node. */
const COMPOSER = /^src\/node\/(?:core(?:\.ts|\/)|resolver\/resolver-rooms\.ts$)/;
/** The classes and functions that rooms are built from and joined with, by the file that has them. */
const JOINED = {
  "src/catalog/entry/codec.ts": "EntryStamper",
  "src/catalog/query/entry-index.ts": "EntryIndex",
  "src/catalog/replica/new-generation.ts": "startNewGeneration",
  "src/catalog/replica/replica.ts": "Replica",
  "src/discovery/dns-names.ts": "DnsNames",
  "src/discovery/fanout.ts": "Fanout",
  "src/discovery/reads.ts": "CatalogReads",
  "src/discovery/registrar/commit-cycle.ts": "CommitCycle",
  "src/discovery/registrar/registrar.ts": "Registrar",
  "src/discovery/registrar/restore.ts": "JournalRestore|restoreLeases|soundNumbers",
  "src/discovery/policy-switch-queue.ts": "SwitchQueue",
  "src/fabric/fabric.ts": "Fabric",
  "src/fabric/snapshot/snapshot.ts": "readSnapshot|restoreSnapshot|snapshotBlocks",
  "src/node/access-log.ts": "AccessLog",
  "src/node/core.ts": "NodeMachine",
  "src/node/core/reading-core.ts": "openReadingCore|openReplica",
  "src/node/limits.ts": "NodeLimits",
  "src/policy/versions/engine.ts": "PolicyEngine",
  "src/services/discovery/response-bytes.ts": "DiscoveryBytes",
} as const;

/**
 * The rooms of a node are built in one place, and the rules that join them stand in its machine: no shell and no simulated node makes a room or
 * a part of the machine.
 */
export function composingFaults(root: string): readonly string[] {
  const outside = [...filesBelow(root, "src/node", [".ts"]), ...filesBelow(root, "test/sim", [".ts"])].filter(
    (file) => !COMPOSER.test(file),
  );
  return outside.flatMap((file) => {
    const text = withoutComments(read(root, file));
    const used = [...text.matchAll(/^import \{([^}]*)\} from "([^"]+)";/gm)].flatMap(([, names = "", from = ""]) => {
      const target = posix.normalize(posix.join(dirname(file), from));
      const values = names.split(",").map((name) => name.trim());
      // A class; a constant in capitals makes nothing.
      const isPart = (name: string) => target.startsWith("src/node/core/") && /^[A-Z]\w*[a-z]/.test(name);
      const isJoined = (name: string) => Object.entries(JOINED).some(([of, said]) => of === target && said.split("|").includes(name));
      return values.filter((name) => isPart(name) || isJoined(name));
    });
    return used.map(
      (name) =>
        `${file} has ${name}: the rooms of a node are built and joined in src/node/core.ts and src/node/core/, those of a resolver in src/node/resolver/resolver-rooms.ts`,
    );
  });
}

/** Every source file says in its first lines what it is for. */
export function headerFaults(root: string): readonly string[] {
  return [...sources(root), ...filesBelow(root, "scripts", [".ts"]), ...filesBelow(root, "bench", [".ts"])]
    .filter((file) => !/^(?:#![^\n]*\n)?\/\*\*/.test(read(root, file)))
    .map((file) => `${file} does not start with a sentence in /** */ that says what it is for`);
}

const MARK = ["TO", "DO"].join("");

/** Files of the conformance suite, as its authors wrote them, and code from them. */
const OTHERS = /^test\/conformance\/(?:proto|gen)\//;

/** A note of work to do has an issue's number; no test is focused. */
export function markFaults(root: string): readonly string[] {
  const files = ["src", "test", "scripts", "bench", "proto"]
    .flatMap((folder) => filesBelow(root, folder, [".ts", ".proto", ".go", ".py", ".java"]))
    .filter((file) => !OTHERS.test(file));
  const marks = new RegExp(`\\b(?:${MARK}(?!\\(#\\d+\\): )|${["FIX", "ME"].join("")}\\b|${["XX", "X"].join("")}\\b)`, "g");
  return files.flatMap((file) => {
    const text = read(root, file);
    const focused = /^\s*(?:test|it|describe)\.only\(/gm;
    return [
      ...matchesOf(file, text, marks, (match) => `${match} without a number: write ${MARK}(#123): what and when`),
      ...(file.endsWith(".test.ts") ? matchesOf(file, text, focused, (match) => `${match}…) hides the other tests`) : []),
    ];
  });
}

/** A generated test of the gate takes its size from `test/fakes/effort.ts`, so that the gate plays a part of what the night plays. */
export function effortFaults(root: string): readonly string[] {
  const files = filesBelow(root, "test", [".ts"]).filter((file) => !/^test\/(?:long|nightly|soak)\//.test(file));
  return files.flatMap((file) =>
    matchesOf(
      file,
      read(root, file),
      /\bnumRuns: *\d[\d_]*/g,
      (match) => `${match} is the same in each tier: write runs(…) of test/fakes/effort.ts`,
    ),
  );
}

/** The anchor GitHub gives a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[`*]/g, "")
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replaceAll(/\s/g, "-");
}

function anchorsOf(markdown: string): ReadonlySet<string> {
  return new Set(
    [...markdown.replaceAll(/^```[\s\S]*?^```/gm, "").matchAll(/^#{1,6}\s+(.*)$/gm)].map(([, heading = ""]) => anchorOf(heading)),
  );
}

/**
 * Links in the documentation lead to files and headings that exist. Sources and tests are named in code, without a link, because pages
 * are in the package too and these are not; they exist as well. The changelog may name what is gone.
 */
export function linkFaults(root: string): readonly string[] {
  const pages = [...filesBelow(root, "docs", [".md"]), "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].filter((file) =>
    existsSync(join(root, file)),
  );
  return pages.flatMap((page) => {
    const text = read(root, page);
    const named = page === "CHANGELOG.md" ? [] : [...text.matchAll(/`((?:bench|scripts|src|test)\/[\w./-]+\.\w+)`/g)];
    const missing = named.flatMap(([, file = ""]) => (existsSync(join(root, file)) ? [] : [`${page}: names ${file}, which is not there`]));
    const prose = text.replaceAll(/^```[\s\S]*?^```/gm, "").replaceAll(/`[^`\n]*`/g, "");
    const wrong = [...prose.matchAll(/\]\(([^)\s]+)(?:\s+"[^"]*")?\)/g)].flatMap(([, link = ""]) => {
      if (/^[a-z]+:/.test(link)) return [];
      const [path = "", anchor] = link.split("#", 2);
      const target = path === "" ? page : posix.join(dirname(page), path);
      if (!existsSync(join(root, target))) return [`${page}: link to ${link}: there is no ${target}`];
      if (anchor === undefined || !target.endsWith(".md") || anchorsOf(read(root, target)).has(anchor)) return [];
      return [`${page}: link to ${link}: ${target} has no such heading`];
    });
    return [...missing, ...wrong];
  });
}

/** The lint settings cite only rule numbers that exist in the section "Rules" of CONTRIBUTING.md. */
export function lintRuleFaults(root: string): readonly string[] {
  const file = ".oxlintrc.json";
  const [, after = ""] = read(root, "CONTRIBUTING.md").split("## Rules\n");
  const count = [...(after.split("\n## ")[0] ?? "").matchAll(/^\d+\. /gm)].length;
  const cited = matchesOf(file, read(root, file), /\brules? \d+(?:(?:, | and | to )\d+)*/gi, (match) => match);
  return cited.filter((said) => (said.split(": ")[1]?.match(/\d+/g) ?? []).some((rule) => Number(rule) > count));
}

interface LockedPackage {
  readonly version?: string;
  readonly resolved?: string;
  readonly dev?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/** package-lock.json, as far as we read it. */
export interface Lockfile {
  readonly packages: Readonly<Record<string, LockedPackage | undefined>>;
}

/** Optional packages that the lockfile's packages name and the lockfile does not hold: `npm ci` refuses it for them. */
export function missingOptional(
  lockfile: Lockfile,
): readonly { readonly name: string; readonly version: string; readonly isDev: boolean }[] {
  return Object.entries(lockfile.packages).flatMap(([parent, locked]) =>
    Object.entries(locked?.optionalDependencies ?? {}).flatMap(([name, version]) => {
      const isHeld = [`${parent}/node_modules/${name}`, `node_modules/${name}`].some((path) => lockfile.packages[path] !== undefined);
      return isHeld ? [] : [{ name, version, isDev: locked?.dev === true }];
    }),
  );
}

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

/** The lockfile installs the majors package.json asks for (an old npm silently picks others), from whatever registry there is. */
export function lockfileFaults(root: string): readonly string[] {
  const manifest = JSON.parse(read(root, "package.json")) as Manifest;
  const lockfile = JSON.parse(read(root, "package-lock.json")) as Lockfile;
  const wanted = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });
  const wrong = wanted.flatMap(([name, version]) => {
    const locked = lockfile.packages[`node_modules/${name}`]?.version ?? "nothing";
    if (!/^\d/.test(version)) return [`package.json: ${name} is ${version}: pin an exact version`];
    return locked.split(".")[0] === version.split(".")[0] ? [] : [`package-lock.json: ${name} is ${locked}, package.json says ${version}`];
  });
  const resolved = Object.entries(lockfile.packages).filter(([, each]) => each?.resolved !== undefined);
  const missing = missingOptional(lockfile).map(({ name }) => `package-lock.json lacks ${name}: run node scripts/lockfile.ts`);
  return [...wrong, ...missing, ...resolved.map(([name, each]) => `package-lock.json: ${name} names a registry: ${each?.resolved}`)];
}

/** Rooms, and folders of rooms as `room/folder`, with what each may import. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  ...ROOMS,
  ...Object.fromEntries(
    Object.entries(FOLDERS).flatMap(([room, folders]) =>
      Object.entries(folders).map(([folder, imports]) => [`${room}/${folder}`, imports] as const),
    ),
  ),
};

/** The tables of rooms and of their folders in the architecture page are the tables the checks use. */
export function roomTableFaults(root: string): readonly string[] {
  const page = read(root, "docs/architecture.md");
  const rows = new Map(
    [...page.matchAll(/^\| `(?:src\/)?([a-z/]+?)(?:\/|\.ts)?` \|[^|]*\| ([^|]*) \|$/gm)].map(([, room = "", imports = ""]) => [
      room,
      imports.trim(),
    ]),
  );
  const expected = Object.entries(MAY_IMPORT).map(([room, imports]) => [room, imports.length === 0 ? "–" : imports.join(", ")] as const);
  const faults = expected.flatMap(([room, imports]) => {
    const said = rows.get(room);
    if (said === undefined) return [`docs/architecture.md has no row for ${room}`];
    return said === imports ? [] : [`docs/architecture.md: ${room} may import ${imports}, the page says ${said}`];
  });
  const unknown = [...rows.keys()].filter((room) => MAY_IMPORT[room] === undefined);
  return [...faults, ...unknown.map((room) => `docs/architecture.md shows ${room}, which scripts/rooms.ts does not know`)];
}

const RULES = "docs/design/semantics.md";

interface Rules {
  /** Longest first: one may begin like another. */
  readonly headings: readonly string[];
  /** `Watch 5`: a heading, and the number of an item below it. */
  readonly items: ReadonlySet<string>;
  /** `P1`. */
  readonly properties: ReadonlySet<string>;
}

function rulesOf(page: string): Rules {
  const sections = page.split(/^#{2,3} +/m).slice(1);
  const titled = sections.map((section) => ({ title: section.split("\n", 1)[0]?.trim() ?? "", section }));
  return {
    headings: titled.map(({ title }) => title).toSorted((a, b) => b.length - a.length),
    items: new Set(titled.flatMap(({ title, section }) => [...section.matchAll(/^(\d+)\. /gm)].map(([, item]) => `${title} ${item}`))),
    properties: new Set([...page.matchAll(/^\| (P\d+) \|/gm)].map(([, name = ""]) => name)),
  };
}

/** What a citation names that the page of rules does not have: `Watch 3 and 4; P2`, as it stands after the page's name. */
function unknownRules(citation: string, { headings, items }: Rules): readonly string[] {
  for (let rest = citation; ; ) {
    const heading = headings.find((each) => rest.startsWith(each)) ?? "";
    const numbers = /^(?: \d+)?(?:(?: and|,) \d+)*/.exec(rest.slice(heading.length))?.[0] ?? "";
    const after = rest.slice(heading.length + numbers.length);
    const next = /^(?:, | and )(?=[A-Z])/.exec(after)?.[0];
    if (heading === "" || (next === undefined && !/^(?:[.,;:]|$)/.test(after))) return [rest.split(/[.,;:]/, 1)[0] ?? rest];
    const unknown = [...numbers.matchAll(/\d+/g)].map(([item]) => `${heading} ${item}`).filter((item) => !items.has(item));
    if (unknown.length > 0 || next === undefined) return unknown;
    rest = after.slice(next.length);
  }
}

/** What the comments of a file cite and the page of rules does not have. */
function citationFaults(file: string, source: string, rules: Rules): readonly string[] {
  // A citation may go on in the next line of a comment.
  const text = source.replaceAll(/\n *(?:\*(?!\/)|\/\/)? */g, (gap) => gap.replace(/[^\n]+/, " "));
  const headings = [...text.matchAll(/\bsemantics\.md,\s+([^)]{1,200})/g)].flatMap((match) => {
    const line = text.slice(0, match.index).split("\n").length;
    const unknown = unknownRules((match[1] ?? "").replaceAll(/\s+/g, " "), rules);
    return unknown.map((name) => `${file}:${line}: ${RULES} has no ${name}`);
  });
  const properties = matchesOf(file, text, /\bP\d{1,2}\b/g, (name) => name);
  const unknown = properties.filter((said) => !rules.properties.has(said.split(" ")[1] ?? ""));
  return [...headings, ...unknown.map((said) => `${said} is no property of ${RULES}`)];
}

/** What the simulator checks, and the bugs that it must find, by name. */
export interface Simulated {
  readonly invariants: readonly string[];
  readonly mutants: readonly string[];
}

/** The page of rules names every invariant and every mutant that there is, and no other. */
function simulatedFaults(page: string, { invariants, mutants }: Simulated): readonly string[] {
  return Object.entries({ invariant: invariants, mutant: mutants }).flatMap(([kind, names]) => {
    const said = new Set(
      [...page.matchAll(new RegExp(`\\b${kind}\\s+"([^"]+)"`, "g"))].map(([, name = ""]) => name.replaceAll(/\s+/g, " ")),
    );
    return [
      ...names.filter((name) => !said.has(name)).map((name) => `${RULES}: no rule names the ${kind} "${name}", which it holds`),
      ...[...said].filter((name) => !names.includes(name)).map((name) => `${RULES}: test/sim knows no ${kind} "${name}"`),
    ];
  });
}

/** Comments cite headings, items and properties that the page of rules has; the page names files that there are, and bugs and checks, all of them. */
export function ruleFaults(root: string, simulated: Simulated): readonly string[] {
  const page = read(root, RULES);
  const rules = rulesOf(page);
  const files = ["src", "test"].flatMap((folder) => filesBelow(root, folder, [".ts"]));
  const paths = [...page.matchAll(/`((?:src|test|scripts)\/[^`\s]+\.ts)`/g)].map(([, path = ""]) => path);
  return [
    ...files.flatMap((file) => citationFaults(file, read(root, file), rules)),
    ...paths.filter((path) => !existsSync(join(root, path))).map((path) => `${RULES}: there is no ${path}`),
    ...simulatedFaults(page, simulated),
  ];
}
