/** The rooms of the house, and folders of them: who may import whom, and which files are pure. `docs/architecture.md` shows the same tables. */

/**
 * Room to the rooms it may import, besides itself. A room never imports one beside or above it; type-only imports obey
 * the same rule, because a type is a dependency.
 */
const PARTS: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  consumer: ["lib"],
  grpc: ["lib"],
  catalog: ["lib"],
  policy: ["lib", "catalog"],
  signing: ["lib"],
  summary: ["lib", "catalog", "policy", "signing"],
  fabric: ["lib", "grpc", "catalog", "policy", "signing", "summary"],
  discovery: ["lib", "consumer", "catalog", "policy", "summary", "fabric"],
  resolver: ["lib", "consumer", "catalog", "policy", "summary"],
  dns: ["lib", "consumer", "catalog", "policy", "resolver", "discovery"],
  store: ["lib", "grpc", "catalog", "policy"],
  control: ["lib", "store", "fabric"],
  data: ["lib", "catalog", "policy", "fabric"],
  services: [
    "lib",
    "consumer",
    "catalog",
    "policy",
    "signing",
    "summary",
    "fabric",
    "discovery",
    "resolver",
    "dns",
    "store",
    "control",
    "data",
  ],
  server: ["lib", "grpc", "policy", "services"],
  client: ["lib", "consumer", "grpc"],
  config: ["lib"],
  cli: ["lib", "consumer", "client", "config"],
};
/** The programs beside the node. It does not import them. */
const PROGRAMS = ["client", "cli"];

export const ROOMS: Readonly<Record<string, readonly string[]>> = {
  ...PARTS,
  // These two join all the others.
  node: Object.keys(PARTS).filter((room) => !PROGRAMS.includes(room)),
  main: [...Object.keys(PARTS), "node"],
};

/** The folders of `src/dns/`: each imports only such as stand before it. */
const DNS_FOLDERS = {
  names: [],
  subject: ["names"],
  views: ["names", "subject"],
  records: ["names", "subject"],
  plan: ["names", "subject", "records"],
  signing: ["names", "records", "plan"],
  cache: ["names", "subject", "records", "plan", "signing"],
  wire: ["names", "views", "records", "plan"],
  transfer: ["names", "subject", "views", "records", "plan", "wire"],
  server: ["subject", "views", "records", "plan", "signing", "cache", "wire", "transfer"],
} as const;

/** Rooms whose folders have an order too: folder to the folders of its room that it may import, besides itself. All files of such a room are in one of them. */
export const FOLDERS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = { dns: DNS_FOLDERS };

/** Rooms of which every file may use sockets, timers and the like. In all other rooms only files named `.io.ts` may. */
export const IMPURE_ROOMS: readonly string[] = ["services", "server", "client", "config", "cli", "main"];

/** A library that is imported in few places is replaced in few places. */
export interface Fence {
  /** What the import says; `*` matches anything. */
  readonly specifier: string;
  /** Files that may say it. */
  readonly allowed: RegExp;
  readonly why: string;
}

export const FENCES: readonly Fence[] = [
  {
    specifier: "gen/*_pb.js",
    allowed: /^src\/(?:[a-z]+\/(?:[a-z]+\/)?(?:[a-z]+-)?codec\.ts|(?:services|server|client|cli)\/.*|consumer\/watch-follower\.ts)$/,
    why: "generated messages are turned into our own values at the edge: in codecs, services, server, client and cli; what follows a watch reads its messages",
  },
  {
    specifier: "gen/*entry_codec.ts",
    allowed: /^src\/(?:catalog\/(?:entry|record)|services\/discovery)\/.*$/,
    why: "an entry's bytes are made and read beside their rules, and joined to answers",
  },
  {
    specifier: "gen/*entry_rules.ts",
    allowed: /^src\/catalog\/(?:entry|record)\/.*$/,
    why: "an entry is checked where it is parsed; inside it is trusted",
  },
  {
    specifier: "gen/*fabric_codec.ts",
    allowed: /^src\/(?:fabric\/(?:wire\/|[a-z]+\/options\.ts).*|(?:summary|signing)\/codec\.ts)$/,
    why: "what nodes say to each other is turned into our own values in fabric/wire, and what they sign in summary and signing; its bounds are those of the machines",
  },
  {
    specifier: "gen/*fabric_calls.ts",
    allowed: /^src\/fabric\/wire\/.*$/,
    why: "calls are turned into our own values in fabric/wire, by the rules",
  },
  {
    specifier: "gen/*fabric_rules.ts",
    allowed: /^src\/(?:fabric\/wire\/.*|summary\/codec\.ts)$/,
    why: "what a peer says is checked where it is parsed; inside it is trusted",
  },
  {
    specifier: "dns-packet",
    allowed: /^test\/|^src\/cli\/dns-client\.io\.ts$/,
    why: "the wire format is dns/wire/, which tests hold equal to dns-packet; the command line is no server",
  },
  {
    specifier: "@grpc/*",
    allowed: /^src\/client\/(?:grpc|shards)\/.*\.io\.ts$/,
    why: "grpc-js is sockets: shells only, and of what programs use with grpc-js; our own calls are made by src/grpc",
  },
  { specifier: "@connectrpc/connect-node", allowed: /^test\//, why: "the edge has sockets of its own; tests call it as others do" },
  { specifier: "@connectrpc/*", allowed: /^src\/(?:server|client)\/.*$/, why: "only the edge and the client speak Connect" },
  { specifier: "jose", allowed: /^src\/policy\/identity\/tokens\.io\.ts$/, why: "signed tokens are verified in one place" },
  { specifier: "node:sqlite", allowed: /^src\/store\/.*\.io\.ts$/, why: "only the store knows SQLite" },
  {
    specifier: "prom-client",
    allowed: /^src\/server\/.*\.io\.ts$/,
    why: "rooms count in plain numbers; only the server speaks Prometheus",
  },
  { specifier: "pino", allowed: /^src\/.*\.io\.ts$/, why: "pure code does not log" },
];

/** The room a file under src/ belongs to: its first folder. `src/main.ts` belongs to the room of its own name. */
export function roomOf(file: string): string {
  const [, first = "", ...rest] = file.split("/");
  return rest.length > 0 ? first : first.replace(/\.ts$/, "");
}

/** The folder of its room that a file belongs to. Undefined for a file that lies in the room itself. */
export function folderOf(file: string): string | undefined {
  const [, , folder, ...rest] = file.split("/");
  return rest.length > 0 ? folder : undefined;
}

/** Whether a file must be pure: no sockets, timers, clocks or chance. */
export function isPure(file: string): boolean {
  return !IMPURE_ROOMS.includes(roomOf(file)) && file.startsWith("src/") && file.split("/").length > 2 && !file.endsWith(".io.ts");
}
