/** What the contract fixes and this version has not got yet: refused by name instead of as unknown. */

/** Flags of `serve`. */
export const LATER_FLAGS: ReadonlySet<string> = new Set(["--mode", "--upstream", "--namespaces", "--workers"]);

/** Words after `waymark`; a group stands for all below it. */
const LATER_COMMANDS: ReadonlySet<string> = new Set([
  "bench",
  "cert",
  "discovery cache-stats",
  "discovery resync",
  "discovery summary",
  "dns describe",
  "dns explain",
  "dns list",
  "dns register",
  "dns unregister",
  "mesh capacity",
  "mesh clusters",
  "mesh config",
  "mesh join",
  "mesh leaders",
  "mesh revoke",
  "mesh shards",
  "mesh versions",
  "report export-lag",
  "resolver",
]);

/** Whether the contract has this command for a later version. */
export function isUnimplementedCommand(path: string): boolean {
  const words = path.split(" ");
  return words.some((_, at) => LATER_COMMANDS.has(words.slice(0, at + 1).join(" ")));
}

/** commander's complaint about something unknown below `path`, put right when it is known to come later. */
export function laterComplaint(complaint: string, path: string): string {
  const [, kind, name = ""] = /^error: unknown (option|command) '([^'=]+)/.exec(complaint) ?? [];
  const full = path === "" ? name : `${path} ${name}`;
  if (kind === "option" && path === "serve" && LATER_FLAGS.has(name)) {
    return `error: ${name} comes with a later version of waymark\n`;
  }
  return kind === "command" && isUnimplementedCommand(full) ? `error: waymark ${full} comes with a later version\n` : complaint;
}
