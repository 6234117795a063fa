/** Defines the exit codes of commands, and the errors that select them. */
import { RequestError, SPEAKS_NO_TLS, SPEAKS_TLS } from "../client/request-error.ts";

/** Exit codes. */
export const EXIT = { done: 0, failed: 1, usage: 2, unreachable: 3, denied: 4, notFound: 5 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The meaning of each exit code, for the help text and the reference page. */
export const EXIT_MEANS: Readonly<Record<ExitCode, string>> = {
  [EXIT.done]: "success",
  [EXIT.failed]: "the request failed, or a check found a problem",
  [EXIT.usage]: "the command line or the settings are invalid",
  [EXIT.unreachable]: "the server is unreachable",
  [EXIT.denied]: "permission denied",
  [EXIT.notFound]: "not found",
};

/** An invalid command line. The message describes the valid form. */
export class UsageError extends Error {}

/** A failed command, with its own exit code and a message of one or more lines. */
export class CommandError extends Error {
  readonly exit: ExitCode;

  constructor(message: string, exit: ExitCode = EXIT.failed, cause?: unknown) {
    super(message, { cause });
    this.exit = exit;
  }
}

/** Returns the exit code for an error that ended a command. */
export function exitOf(error: unknown): ExitCode {
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof CommandError) return error.exit;
  if (!(error instanceof RequestError)) return EXIT.failed;
  const { code, isReachable } = error.facts;
  if (!isReachable) return EXIT.unreachable;
  if (code === "PERMISSION_DENIED" || code === "UNAUTHENTICATED") return EXIT.denied;
  return code === "NOT_FOUND" ? EXIT.notFound : EXIT.failed;
}

/** Returns advice for an untrusted certificate, based on the messages of OpenSSL and Node.js, or undefined for other errors. */
function distrust(message: string, server: string, caFile: string | undefined): string | undefined {
  if (/certificate has expired/.test(message)) return "the certificate has expired: renew it on the server";
  if (/does not match certificate|Hostname\/IP/.test(message))
    return "the certificate is for a different name: pass a host that the certificate lists with --server; waymark mesh token create --dns-name adds a host";
  if (/self-signed certificate|unable to (?:verify|get)|certificate (?:signature failure|verify failed)/.test(message))
    return caFile === undefined
      ? "the CA that issued the certificate is not trusted: pass the CA file with --ca"
      : `${caFile} does not contain the CA that signed the certificate of ${server}`;
  return undefined;
}

/** Returns the lines to print for an error: the failure, each invalid field, and advice. `caFile` is the CA file that the command used. */
export function errorLines(error: unknown, caFile?: string): readonly string[] {
  if (!(error instanceof RequestError)) return (error instanceof Error ? error.message : String(error)).split("\n");
  const { violations, retryMs, isReachable, server, code } = error.facts;
  if (!isReachable) {
    if (error.message === SPEAKS_NO_TLS) return [`cannot reach ${server} over TLS`, `${SPEAKS_NO_TLS}: omit --tls and --ca`];
    if (error.message === SPEAKS_TLS)
      return [
        `cannot reach ${server} over plaintext`,
        "the server requires TLS: pass its CA file with --ca, or pass --tls to trust the system's CAs",
      ];
    const advice = distrust(error.message, server, caFile);
    if (advice !== undefined) return [`cannot trust ${server}: ${error.message}`, advice];
    return [
      `cannot reach ${server}: ${error.message}`,
      "check that the server is running, or select another server with --server host:port or WAYMARK_SERVER",
    ];
  }
  const headline = error.facts.reason === undefined ? `${code}: ${error.message}` : error.message;
  const fields = violations.length > 1 ? violations.map(({ field, description }) => `  ${field}: ${description}`) : [];
  const unready =
    error.facts.reason === "NOT_READY"
      ? ["GET /readyz on the HTTP port of the server shows what it is waiting for; retry later, or use another server"]
      : [];
  const retry = retryMs === undefined || error.message.includes("try again in ") ? [] : [`try again in ${Math.ceil(retryMs / 1000)} s`];
  return [headline, ...fields, ...unready, ...retry];
}
