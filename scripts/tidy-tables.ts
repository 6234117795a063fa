/** Checks that our tables (settings, metrics, reasons) and what uses, tests and documents them do not drift apart. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { filesBelow, importsOf, withoutComments } from "./imports.ts";

function texts(root: string, folder: string, endings: readonly string[], except?: RegExp): readonly string[] {
  return filesBelow(root, folder, endings)
    .filter((file) => except?.test(file) !== true)
    .map((file) => readFileSync(join(root, file), "utf8"));
}

/** Metrics that the running program does not count. A name counts as the argument of a call, or as the value of a key that is one. */
export function uncountedMetrics(root: string, names: readonly string[]): readonly string[] {
  const code = [...loadedFiles(root, "src/main.ts")].map((file) => withoutComments(readOrEmpty(join(root, file)))).join("\n");
  const calls = [...code.matchAll(/(?:etrics|this)\s*\.(?:counter|gauge|histogram|inc|observe|set)\(\s*(?:"(\w+)"|[\w.#]+\.(\w+)\b)/g)];
  const keys = new Set(calls.map(([, , key]) => key));
  const values = [...code.matchAll(/(\w+): "(\w+)"/g)].flatMap(([, key, value]) => (keys.has(key) ? [value] : []));
  const counted = new Set([...calls.map(([, name]) => name), ...values]);
  return names.filter((name) => !counted.has(name));
}

/** A file, and all files that it loads, also later. */
function loadedFiles(root: string, entry: string): ReadonlySet<string> {
  const loaded = new Set([entry]);
  for (const file of loaded) {
    if (!existsSync(join(root, file)) || !file.endsWith(".ts")) continue;
    for (const { file: imported } of importsOf(root, file)) if (imported !== undefined) loaded.add(imported);
  }
  return loaded;
}

/** Rpcs that no test calls or names. */
export function untestedRpcs(root: string, names: readonly string[]): readonly string[] {
  const words = new Set(texts(root, "test", [".ts", ".go", ".py"]).flatMap((text) => text.match(/\w+/g) ?? []));
  return names.filter((name) => !words.has(name) && !words.has(name.slice(0, 1).toLowerCase() + name.slice(1)));
}

/** Names that src/ does not contain between quotes. A table's own keys do not count. */
function unusedNames(root: string, names: readonly string[]): readonly string[] {
  const code = sourceOf(root);
  return names.filter((name) => !new RegExp(`["'\`]${name}["'\`]`).test(code));
}

/** Paths of HTTP that the page for operators does not name: `ofProtos`, and those of the node itself, which are all texts in the form of a path there. */
export function unexplainedRoutes(root: string, ofProtos: readonly string[]): readonly string[] {
  const page = readOrEmpty(join(root, "docs/guides/operations.md"));
  const code = texts(root, "src/server", [".ts"]).map(withoutComments).join("\n");
  // A path that comes with a later version is not explained yet.
  const found = [...code.matchAll(/(["'`])(\/[a-z][\w/-]*)\1(?!: unimplemented\()/g)].map(([, , path = ""]) => path);
  return [...new Set([...ofProtos, ...found])].filter((path) => !new RegExp(`[\`: ]${path}[\`?\\s]`).test(page));
}

/** The files with the rows of settings, and the one that only compares them with each other: what they say is not read by anybody. */
const SETTING_TABLES = /^src\/config\/(?!exposure\.)[a-z-]+\.ts$/;

/** Groups that the node hands over as they are, and who takes them: there a setting is a member of whatever it is called, or of a parameter. */
const HANDED_OVER: Readonly<Record<string, RegExp>> = {
  audit: /^src\/store\/audit\//,
  catalog: /^src\/(?:catalog|discovery\/registrar)\//,
  dns: /^src\/dns\//,
  limits: /^(?:src\/catalog\/|src\/policy\/limits\/|gen\/)/,
  server: /^src\/(?:grpc|server)\//,
};

export interface Setting {
  readonly group: string;
  /** In code, with its unit. */
  readonly name: string;
}

/**
 * Settings that nobody in src/ reads: whoever sets one changes nothing. Only the node's own files know settings. There one is read as
 * `dns.minTtlMs`, or taken out of its group: `{ minTtlMs } = settings.dns`. The same word elsewhere is something else.
 */
export function unreadSettings(root: string, settings: readonly Setting[]): readonly string[] {
  const sources = [...filesBelow(root, "src", [".ts"]), ...filesBelow(root, "gen", ["_rules.ts"])];
  const files = sources.map((file) => ({ file, code: withoutComments(readOrEmpty(join(root, file))) }));
  const own = files.filter(({ file }) => /^src\/(?:node|main|config)\//.test(file) && !SETTING_TABLES.test(file));
  const isRead = ({ group, name }: Setting) => {
    if (own.some(({ code }) => isMemberOf(code, `\\b${group}`, name))) return true;
    const takers = HANDED_OVER[group];
    return (
      takers !== undefined &&
      files.some(({ file, code }) => takers.test(file) && (isMemberOf(code, "[\\w\\])]", name) || isOfParameter(code, name)))
    );
  };
  return settings.filter((setting) => !isRead(setting)).map(({ group, name }) => `${group}.${name}`);
}

/** `{ name }: Group` */
function isOfParameter(code: string, name: string): boolean {
  return new RegExp(`\\{[^{}]*\\b${name}\\b[^{}]*\\}: \\w+[,)]`).test(code);
}

/** Whether code reads a member of an object: `object.name` or `{ name } = object`. What `object` matches is how the object's expression ends. */
function isMemberOf(code: string, object: string, name: string): boolean {
  return new RegExp(`${object}\\??\\.${name}\\b|\\{[^{}]*\\b${name}\\b[^{}]*\\} = [^;{}\\n]*${object};`).test(code);
}

function sourceOf(root: string, except?: RegExp): string {
  return texts(root, "src", [".ts"], except).map(withoutComments).join("\n");
}

/** Reasons that src/ refuses with and no test names: nobody has seen them happen. */
export function untestedReasons(root: string, reasons: readonly string[]): readonly string[] {
  const unused = new Set(unusedNames(root, reasons));
  const tests = texts(root, "test", [".ts", ".txt", ".go", ".py"], /^test\/(?:tidy|checks)\.test\.ts$/).join("\n");
  const isNamed = (reason: string) => new RegExp(`\\b(?:${reason}|${reason.toUpperCase()})\\b`).test(tests);
  return reasons.filter((reason) => !unused.has(reason) && !isNamed(reason));
}

export interface Known {
  readonly metrics: readonly string[];
  /** Keys as in files: `dns.min_ttl`. */
  readonly settings: readonly string[];
}

/** Metrics and settings that the documentation names and the program does not have. */
export function unknownNames(root: string, known: Known): readonly string[] {
  const metrics = new Set([
    ...known.metrics,
    ...known.metrics.flatMap((name) => ["bucket", "sum", "count"].map((part) => `${name}_${part}`)),
  ]);
  const settings = new Set(known.settings);
  const groups = [...new Set(known.settings.map((key) => key.split(".")[0] ?? ""))];
  // `audit.db` and `audit.mark` are files.
  const settingLike = new RegExp(`\`((?:${groups.join("|")})\\.(?!(?:db|mark)\`)[a-z_]+)\``, "g");
  const pages = [...filesBelow(root, "docs", [".md"]), "README.md", "CONTRIBUTING.md", "SECURITY.md"].filter(
    (page) => !page.startsWith("docs/decisions/"),
  );
  return pages.flatMap((page) => {
    const text = readOrEmpty(join(root, page));
    const saidMetrics = [
      ...text.matchAll(/\b(?:waymark|discovery|dns|rpc|mesh)_[a-z_]+_(?:total|ms|bytes|entries|streams|seconds|revisions)\b/g),
    ].map(([name]) => name);
    const saidSettings = [...text.matchAll(settingLike)].map(([, name = ""]) => name);
    return [
      ...saidMetrics.filter((name) => !metrics.has(name)).map((name) => `${page}: there is no metric ${name}`),
      ...saidSettings.filter((name) => !settings.has(name)).map((name) => `${page}: there is no setting ${name}`),
    ];
  });
}

// Where the fabric names an event: the first argument of what makes one, its `name`, or the default of that.
const NAMED = /\b(?:(?:event|eventOutput|clusterEvent|note)\(|name(?: =|:))([^,;)]*)/gi;
// Where the node does: a name before its severity.
const TOLD = /(?:tell\(\{ name: |\[)"([a-z]+(?:_[a-z]+)+)", (?:severity|"(?:info|warn|error)")/g;

/** Events of the mesh that `page` does not explain to whoever finds them in the log. */
export function unexplainedEvents(root: string, page: string): readonly string[] {
  const code = texts(root, "src/fabric", [".ts"]).map(withoutComments).join("\n");
  const explained = readOrEmpty(join(root, page));
  const names = [...code.matchAll(NAMED)].flatMap(([, said = ""]) => said.match(/(?<=")[a-z]+(?:_[a-z]+)+(?=")/g) ?? []);
  const node = filesBelow(root, "src", [".ts"]).filter((file) => file.startsWith("src/node/"));
  for (const file of node) names.push(...[...readOrEmpty(join(root, file)).matchAll(TOLD)].map(([, name = ""]) => name));
  return [...new Set(names)].filter((name) => !explained.includes(`\`${name}\``)).toSorted();
}

/** Words that the glossary replaced, with the word that it has. A file, a name or a sentence that uses one again speaks of something that no longer has this name. */
const OLD_WORDS: Readonly<Record<string, string>> = {
  carrier: "alias owner",
  courier: "failure detector",
  door: "listener",
  edition: "version",
  eyes: "visibility filter",
  fetcher: "pull scheduler",
  grave: "tombstone",
  graveyard: "tombstones",
  hearing: "upstream liveness",
  holdings: "usage",
  knob: "setting",
  patience: "time limit",
  quarantine: "conflict",
  quarantined: "conflict",
  seam: "io-types",
  seer: "viewer class",
  shelf: "cache",
  standpoint: "reader position",
  swaying: "changing",
  trail: "log",
  turnstile: "semaphore",
  unserved: "unimplemented",
  upkeep: "maintenance",
};

/** Lines, and names of files, with an old word. Decisions and the changelog tell of what was. */
export function oldWordFaults(root: string): readonly string[] {
  const files = ["src", "proto", "docs", "scripts", "bench"]
    .flatMap((folder) => filesBelow(root, folder, [".ts", ".proto", ".md"]))
    .concat("README.md", "CONTRIBUTING.md", "SECURITY.md")
    .filter((file) => !file.startsWith("docs/decisions/") && file !== "scripts/tidy-tables.ts");
  return files.flatMap((file) =>
    [file, ...readOrEmpty(join(root, file)).split("\n")].flatMap((line, number) => {
      const words =
        line
          .replaceAll(/([a-z])([A-Z])/g, "$1 $2")
          .toLowerCase()
          .match(/[a-z]+/g) ?? [];
      return words.flatMap((word) => {
        const old = Object.hasOwn(OLD_WORDS, word) ? word : word.replace(/s$/, "");
        return Object.hasOwn(OLD_WORDS, old) ? [`${file}:${number}: "${word}" is an old word: ${OLD_WORDS[old]}`] : [];
      });
    }),
  );
}

function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // A page that is not there names nothing.
  }
}

/** Folders, and names of lost, partial and second-hand origins, that still have words of their own. Issue 63 renames them. */
const OWN_WORDS =
  /^src\/(?:fabric\/(?:borders|summaries)|summary|resolver\/summaries)\/|: (?:HeardRule|HeldInstance|LostWords?|Lacking(?:Words)?|Disproved)$/;

/** A type with one of these names says nothing about itself. */
const VAGUE_NAMES = new Set("Row Place Asked Answer Told Waiting Taking Saying Given Known Ends Chores Held Owed Words".split(" "));

/** Vague names, and words, of the classes, exported types and files of `src` that are neither in the glossary nor in `scripts/technical-words.txt`. */
export function unknownNameWords(root: string): readonly string[] {
  const list = readOrEmpty(join(root, "scripts/technical-words.txt"));
  const terms = [...readOrEmpty(join(root, "docs/glossary.md")).matchAll(/\*\*([^*]+)\*\*/g)].map(([, term]) => term).join(" ");
  const known = new Set(`${list} ${terms}`.toLowerCase().match(/[a-z]+/g));
  const isKnown = (word: string) =>
    [word, word.replace(/s$/, ""), word.replace(/es$/, ""), word.replace(/ies$/, "y")].some((each) => known.has(each));
  return filesBelow(root, "src", [".ts"]).flatMap((file) => {
    const types = [
      ...readOrEmpty(join(root, file)).matchAll(/^(?:export (?:interface|type|enum)|(?:export )?(?:abstract )?class) (\w+)/gm),
    ];
    return [file.replace(/^src\/|(?:\.io)?\.ts$/g, ""), ...types.map(([, name = ""]) => name)].flatMap((name) => {
      if (OWN_WORDS.test(`${file}: ${name}`)) return [];
      if (VAGUE_NAMES.has(name)) return [`${file}: ${name} is too vague: use two words or more`];
      const words = name.replaceAll(/([a-z0-9])([A-Z])|([A-Z])(?=[A-Z][a-z])/g, "$1$3 $2").toLowerCase();
      return (words.match(/[a-z]+/g) ?? [])
        .filter((word) => !isKnown(word))
        .map((word) => `${file}: "${word}" of ${name} is neither in the glossary nor in scripts/technical-words.txt`);
    });
  });
}
