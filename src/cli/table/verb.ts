/** Defines the types for verbs: the row in the VERBS table, and the function. Also defines the flags that several tables share. */
import type { ClientCalls } from "../../client/calls.ts";
import type { Environment } from "../environment.ts";
import type { ExitCode } from "../exit.ts";
import type { Flags } from "../flags.ts";
import type { CommandOutput } from "../output.ts";

export type CompletionShell = "bash" | "zsh" | "fish";

export interface VerbContext {
  readonly environment: Environment;
  /** Positional arguments. Missing optional arguments at the end are omitted. */
  readonly args: readonly string[];
  readonly flags: Flags;
  readonly out: CommandOutput;
  /** Returns the calls to the servers. The caller closes them. */
  readonly client: () => ClientCalls;
  /** Returns `--tenant` and `--as-operator` as the viewer of a read. */
  readonly viewer: { readonly viewer?: { readonly tenantId: string; readonly asOperator: boolean } };
  /** Returns the completion script for a shell. The function is passed in, because it uses the VERBS table, which verbs must not import. */
  readonly completionOf: (shell: CompletionShell) => Promise<string>;
}

/** A verb. Undefined means success. */
export type VerbFunction = (context: VerbContext) => Promise<ExitCode | undefined>;

export interface FlagSpec {
  /** The flags in the form that commander expects: `-f, --file <file>`. */
  readonly flags: string;
  readonly doc: string;
  readonly isRepeatable?: true;
  readonly choices?: readonly string[];
  readonly isRequired?: true;
  /** If the flag is repeated, the last value is used, so that a script can override a command line. Other flags must not be repeated. */
  readonly isOverridable?: true;
  /** The value is a list whose items are separated by commas. */
  readonly isList?: true;
  /** Whether an empty value is meaningful. For other flags, an empty value is an error, because it usually comes from an unset shell variable. */
  readonly mayBeEmpty?: true;
}

export const AS_OPERATOR: FlagSpec = {
  flags: "--as-operator",
  doc: "Also show what policy hides from you, and the rules that hide it. Requires the role mesh.operate. Each such read is audited.",
};

export interface ArgSpec {
  /** `<name>` is required, `[name]` is optional, and `[name...]` accepts several values. */
  readonly name: string;
  readonly doc: string;
  readonly choices?: readonly string[];
}

export interface VerbSpec {
  /** Words after `waymark`. */
  readonly path: string;
  /** Whether the verb does not need a server, so that the client is not loaded. */
  readonly isAlone?: true;
  readonly summary: string;
  /** Whether the group runs this verb if no other word follows. */
  readonly isDefault?: true;
  readonly args?: readonly ArgSpec[];
  readonly flags?: readonly FlagSpec[];
  /** A command (without `waymark`) and its effect. */
  readonly examples: readonly (readonly [command: string, does: string])[];
  readonly load: () => Promise<VerbFunction>;
}
