/** How a command ends: exit codes, and the errors that choose them. */
import { RequestError, SPEAKS_NO_TLS, SPEAKS_TLS } from "../client/request-error.ts";

/** Exit codes. */
export const EXIT = { done: 0, failed: 1, usage: 2, unreachable: 3, denied: 4, notFound: 5 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The meaning of each exit code, for the help and the reference page. */
export const EXIT_MEANS: Readonly<Record<ExitCode, string>> = {
  [EXIT.done]: "done",
  [EXIT.failed]: "the request failed, or a check found a fault",
  [EXIT.usage]: "bad usage or settings",
  [EXIT.unreachable]: "not reachable",
  [EXIT.denied]: "denied",
  [EXIT.notFound]: "not found",
};

/** The command line is wrong. The message says what would be right. */
export class UsageError extends Error {}

/** The command failed, with its own exit code and one or more lines for people. */
export class CommandError extends Error {
  readonly exit: ExitCode;

  constructor(message: string, exit: ExitCode = EXIT.failed, cause?: unknown) {
    super(message, { cause });
    this.exit = exit;
  }
}

/** The exit code for an error that ended a command. */
export function exitOf(error: unknown): ExitCode {
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof CommandError) return error.exit;
  if (!(error instanceof RequestError)) return EXIT.failed;
  const { code, isReachable } = error.facts;
  if (!isReachable) return EXIT.unreachable;
  if (code === "PERMISSION_DENIED" || code === "UNAUTHENTICATED") return EXIT.denied;
  return code === "NOT_FOUND" ? EXIT.notFound : EXIT.failed;
}

/** Advice about a certificate that is not trusted, found by the messages of OpenSSL and Node; undefined for other errors. */
function distrust(message: string): string | undefined {
  if (/certificate has expired/.test(message)) return "its certificate has expired: renew it on the server";
  if (/does not match certificate|Hostname\/IP/.test(message))
    return "its certificate is for another name: use a name that the certificate has";
  if (/self-signed certificate|unable to (?:verify|get)|certificate (?:signature failure|verify failed)/.test(message))
    return "its certificate comes from an authority that is not trusted here: name the authority's file with --ca";
  return undefined;
}

/** Lines for people: what failed, every refused field, and what to try. */
export function errorLines(error: unknown): readonly string[] {
  if (!(error instanceof RequestError)) return (error instanceof Error ? error.message : String(error)).split("\n");
  const { violations, retryMs, isReachable, server, code } = error.facts;
  if (!isReachable) {
    if (error.message === SPEAKS_NO_TLS) return [`cannot reach ${server} with TLS`, `${SPEAKS_NO_TLS}: leave out --tls and --ca`];
    if (error.message === SPEAKS_TLS)
      return [
        `cannot reach ${server} in plain text`,
        "the server there speaks TLS: pass --ca with the authority of its certificate, or --tls to trust the system's",
      ];
    const advice = distrust(error.message);
    if (advice !== undefined) return [`cannot trust ${server}: ${error.message}`, advice];
    return [
      `cannot reach ${server}: ${error.message}`,
      "is the server running there? name another with --server host:port or WAYMARK_SERVER",
    ];
  }
  const said = error.facts.reason === undefined ? `${code}: ${error.message}` : error.message;
  const fields = violations.length > 1 ? violations.map(({ field, description }) => `  ${field}: ${description}`) : [];
  const unready =
    error.facts.reason === "NOT_READY"
      ? [`waymark discovery lag --server ${server} shows what it waits for; another node may take the request now`]
      : [];
  return [said, ...fields, ...unready, ...(retryMs === undefined ? [] : [`try again in ${Math.ceil(retryMs / 1000)} s`])];
}
