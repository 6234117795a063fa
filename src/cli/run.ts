/** Runs a command line: builds the commands from the VERBS table, runs one, prints its error, and returns the exit code. */
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from "commander";
import type { ClusterCalls } from "../client/cluster-calls.ts";
import { type ConnectOptions, isToken, parseServer, SERVER_RULE, TOKEN_RULE } from "../client/connect-options.ts";
import { GRPC_PORT } from "../lib/addresses.ts";
import { MAX_TIMER_MS, parseDurationMs } from "../lib/duration.ts";
import { assert } from "../lib/errors.ts";
import type { Environment } from "./environment.ts";
import { EXIT, EXIT_MEANS, type ExitCode, errorLines, exitOf, UsageError } from "./exit.ts";
import { Flags } from "./flags.ts";
import { CommandOutput, FORMATS } from "./output.ts";
import type { CompletionShell, FlagSpec, VerbSpec } from "./table/verb.ts";
import { GLOBAL_FLAGS, GROUPS, VERBS } from "./table/verbs.ts";
import { findCommand, IS_EMPTY, IS_TWICE, IS_TWO_LISTS, missingError, pathOf, usageErrorOf } from "./usage-errors.ts";

/** A command that has not printed any output prints a progress note after this time. */
const SLOW_MS = 1000;

/** Runs one command line (without `node` and the script name) and returns its exit code. Never throws. */
export async function runCli(argv: readonly string[], environment: Environment): Promise<ExitCode> {
  let exit: ExitCode = EXIT.done;
  // The flags of `serve` are settings, and loading the settings is slower than most commands.
  const verbs = argv.includes("serve") ? (await import("./table/full.ts")).ALL_VERBS : VERBS;
  const program = buildProgram(verbs, argv, environment, async (spec, command, args) => {
    if (spec.path !== "serve") environment.runsNoNode();
    if (spec.path === "help") findCommand(program, args).outputHelp();
    else exit = await runVerb(spec, { environment, args, flags: new Flags(command.optsWithGlobals()) });
  });
  try {
    await program.parseAsync([...argv], { from: "user" });
    return exit;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  }
}

type CommandAction = (spec: VerbSpec, command: Command, args: readonly string[]) => Promise<void>;

/** Builds the commands for commander. `action` runs the selected command. */
function buildProgram(
  verbs: readonly VerbSpec[],
  argv: readonly string[],
  environment: Pick<Environment, "version" | "stdout" | "stderr">,
  action: CommandAction,
): Command {
  const program = new Command("waymark")
    .description("Service discovery: run nodes, and register, find and follow services.")
    .version(`waymark ${environment.version}`, "-V, --version", "Print the version.")
    .helpOption("-h, --help", "Show help.")
    .addHelpText("after", `\nRun waymark COMMAND --help for the flags and examples of a command.\nExit codes: ${exitCodes()}.`);
  for (const flag of GLOBAL_FLAGS) program.addOption(optionOf(flag));
  settle(program, environment);
  const groups = new Map<string, Command>();
  for (const spec of namedVerbs(verbs, argv)) {
    const words = spec.path.split(" ");
    let parent = program;
    for (let depth = 1; depth < words.length; depth++) {
      const path = words.slice(0, depth).join(" ");
      const group = groups.get(path) ?? settle(parent.command(words[depth - 1] ?? "").description(GROUPS[path] ?? ""), environment);
      groups.set(path, group);
      parent = group;
    }
    // It neither runs nor appears in any help if the command line does not contain its group.
    if (parent !== program && !argv.includes(words[0] ?? "")) continue;
    const command = settle(parent.command(words.at(-1) ?? "", { isDefault: spec.isDefault === true }), environment);
    describe(command, spec);
    command.action(async () => {
      // commander would report a missing flag before an unknown flag, so missing flags are checked here.
      const missing = missingError(command);
      if (missing !== undefined) command.error(missing);
      await action(spec, command, command.args);
    });
  }
  return program;
}

/** Returns the verbs that can run if the command line names a verb of a group. Otherwise, and for help, returns all verbs. */
function namedVerbs(verbs: readonly VerbSpec[], argv: readonly string[]): readonly VerbSpec[] {
  const line = `\n${argv.join("\n")}\n`;
  const named = verbs.filter(({ path }) => line.includes(`\n${path.replaceAll(" ", "\n")}\n`));
  const isWhole = !named.some(({ path }) => path.includes(" ")) || /\n(?:-h|--help|help)\n/.test(line);
  return isWhole ? verbs : named;
}

/** Lists the exit codes in one line. */
function exitCodes(): string {
  return Object.entries(EXIT_MEANS)
    .map(([code, means]) => `${code} ${means}`)
    .join("; ");
}

function settle(command: Command, { stdout, stderr }: Pick<Environment, "stdout" | "stderr">): Command {
  return command
    .exitOverride()
    .showHelpAfterError(`run ${["waymark", pathOf(command), "--help"].filter(Boolean).join(" ")} for usage`)
    .helpOption("-h, --help", "Show help.")
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true, helpWidth: 110 })
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      outputError: (text, write) => write(usageErrorOf(text, command)),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
}

function describe(command: Command, spec: VerbSpec): void {
  command.description(spec.summary);
  for (const arg of spec.args ?? []) {
    const argument = new Argument(arg.name, arg.doc);
    command.addArgument(arg.choices ? argument.choices(arg.choices) : argument);
  }
  for (const flag of spec.flags ?? []) command.addOption(optionOf(flag));
  const examples = spec.examples.map(([line, does]) => `  waymark ${line}\n      ${does}`);
  command.addHelpText("after", `\nExamples:\n${examples.join("\n")}`);
}

function optionOf({ flags, doc, choices, isRequired, isRepeatable, isList, mayBeEmpty, isOverridable }: FlagSpec): Option {
  const option = new Option(
    flags,
    `${doc}${isRequired ? " (required)" : ""}${isRepeatable ? " (repeatable)" : ""}${isList ? " (comma-separated)" : ""}`,
  );
  if (choices) option.choices(choices);
  // Repeating a flag without a value has no further effect.
  if (option.isBoolean() || option.negate) return option;
  // commander itself checks each value against the choices.
  const parseOne = option.parseArg;
  option.argParser((value: string, before: unknown) => {
    parseOne?.(value, undefined);
    // An empty value often comes from an unset shell variable. If an empty value were accepted, the command would not do what it appears to do.
    if (value === "" && mayBeEmpty !== true) throw new InvalidArgumentError(IS_EMPTY);
    if (isRepeatable) return [...(Array.isArray(before) ? (before as readonly unknown[]) : []), value];
    if (before !== undefined && isOverridable !== true) throw new InvalidArgumentError(isList ? IS_TWO_LISTS : IS_TWICE);
    return value;
  });
  return option;
}

interface CommandCall {
  readonly environment: Environment;
  readonly args: readonly string[];
  readonly flags: Flags;
}

async function runVerb(spec: VerbSpec, { environment, args, flags }: CommandCall): Promise<ExitCode> {
  const format = FORMATS.find((name) => name === flags.text("output")) ?? "table";
  // commander converts --no-color to color: false.
  const wantsColor = flags.isOn("color") && (environment.env["NO_COLOR"] ?? "") === "";
  const toYaml = format === "yaml" ? (await import("../lib/text/yaml-text.ts")).toYaml : undefined;
  let cancelSlow: (() => void) | undefined;
  const out: CommandOutput = new CommandOutput({
    format,
    stdout: environment.stdout,
    stderr: environment.stderr,
    wantsColor,
    isQuiet: flags.isOn("quiet"),
    ...(toYaml && { toYaml }),
    onBegun: () => cancelSlow?.(),
  });
  let calls: ClusterCalls | undefined;
  try {
    const options = await connectOptions(flags, environment);
    calls = spec.isAlone === true ? undefined : await (await import("../client/channel.io.ts")).openCalls(options);
    const client = (): ClusterCalls => {
      assert(calls !== undefined, `${spec.path} requested a server connection but is declared to run without a server`);
      return calls;
    };
    const tenantId = flags.text("tenant") ?? environment.env["WAYMARK_TENANT"];
    const verb = await spec.load();
    if (spec.path !== "serve") cancelSlow = environment.later(() => out.note(`still running ${spec.path} …`), SLOW_MS);
    const asOperator = flags.isOn("asOperator");
    const viewer = tenantId === undefined && !asOperator ? {} : { viewer: { tenantId: tenantId ?? "", asOperator } };
    return (await verb({ environment, args, flags, out, client, viewer, completionOf })) ?? EXIT.done;
  } catch (error) {
    cancelSlow?.();
    for (const line of errorLines(error, flags.text("ca") ?? (environment.env["WAYMARK_CA"] || undefined))) out.error(line);
    if (error instanceof UsageError) out.note(`run waymark ${spec.path} --help for usage`);
    return exitOf(error);
  } finally {
    cancelSlow?.();
    calls?.close();
  }
}

async function connectOptions(flags: Flags, environment: Environment): Promise<ConnectOptions> {
  /** Returns the value of a flag or its environment variable. An empty variable is treated as unset. */
  const given = (flag: string) => {
    const text = flags.text(flag);
    const variable = `WAYMARK_${flag.toUpperCase()}`;
    return text === undefined ? { text: environment.env[variable] || undefined, source: variable } : { text, source: `--${flag}` };
  };
  const { text = `127.0.0.1:${GRPC_PORT}`, source } = given("server");
  const servers = text.split(",").map((server) => serverOf(server.trim(), source));
  const timeout = flags.text("timeout");
  const timeoutMs = timeout === undefined ? undefined : (parseDurationMs(timeout) ?? 0);
  if (timeoutMs !== undefined && (timeoutMs < 1 || timeoutMs > MAX_TIMER_MS))
    throw new UsageError(`invalid --timeout ${timeout}: expected a duration from 1ms to 24 days, such as 500ms or 30s`);
  const { text: token, source: tokenSource } = given("token");
  if (token !== undefined && !isToken(token)) throw new UsageError(`${tokenSource} is not a valid token: ${TOKEN_RULE}`);
  const [ca, cert, key] = [given("ca"), given("cert"), given("key")];
  if ((cert.text === undefined) !== (key.text === undefined))
    throw new UsageError("--cert and --key (or WAYMARK_CERT and WAYMARK_KEY) must be set together");
  const wantsTls = flags.isOn("tls") || saysTls(environment.env["WAYMARK_TLS"] ?? "");
  if (cert.text !== undefined && ca.text === undefined && !wantsTls) throw new UsageError("--cert requires TLS: add --tls or --ca");
  const hasFiles = ca.text !== undefined || cert.text !== undefined;
  const tls = hasFiles ? await (await import("./tls-flags.ts")).readTlsFlags(environment, { ca, cert, key }) : wantsTls && {};
  return { servers, ...(timeoutMs !== undefined && { timeoutMs }), ...(token !== undefined && { token }), ...(tls && { tls }) };
}

/** Whether `WAYMARK_TLS` turns TLS on. Throws for an unknown value, so that a typo cannot cause a token to be sent over plaintext. */
function saysTls(text: string): boolean {
  if (text === "1" || text === "true") return true;
  if (text === "" || text === "0" || text === "false") return false;
  throw new UsageError(`invalid WAYMARK_TLS ${JSON.stringify(text)}: expected 1 or true for TLS, or 0 or false for plaintext`);
}

/** Parses `host:port`, in which the port is optional. `source` is the flag or variable that contains the text, for errors. */
function serverOf(text: string, source: string): string {
  const server = parseServer(text);
  if (server === undefined) throw new UsageError(`${source} ${text || '""'}: ${SERVER_RULE}`);
  return server;
}

/** Returns the completion script of a shell. The script generator is loaded on demand, because it also loads the settings for their flags. */
async function completionOf(shell: CompletionShell): Promise<string> {
  const { completionScript } = await import("./completion.ts");
  return completionScript(shell);
}
