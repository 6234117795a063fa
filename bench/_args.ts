/** The flags of a benchmark. A wrong one ends it with a message before anything is started. */
import { basename } from "node:path";
import { parseArgs } from "node:util";

type Flag = boolean | number | string | readonly number[] | readonly string[];
type Widened<F extends Flag> = F extends boolean
  ? boolean
  : F extends number
    ? number
    : F extends string
      ? string
      : F extends readonly number[]
        ? readonly number[]
        : readonly string[];

class WrongFlag extends Error {}

/** Zero only in a list or where it is the default: no rounds and no seconds measure nothing. */
function numberOf(name: string, text: string, mayBeZero: boolean): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  const isGood = Number.isFinite(value) && (value > 0 || (mayBeZero && value === 0));
  if (!isGood) throw new WrongFlag(`--${name}: ${JSON.stringify(text)} is not a number${mayBeZero ? "" : " above 0"}`);
  return value;
}

function read(name: string, text: string, byDefault: Exclude<Flag, boolean>): Flag {
  if (typeof byDefault === "string") return text;
  if (typeof byDefault === "number") return numberOf(name, text, byDefault === 0);
  const words = text.split(",");
  return typeof byDefault[0] === "string" ? words : words.map((word) => numberOf(name, word, true));
}

/**
 * What each flag says, or its default. A list is written with commas between. Ends the process with code 2 where a flag is unknown, has no value, or
 * is not the number that its default is.
 */
export function argsOf<const F extends Readonly<Record<string, Flag>>>(defaults: F): { readonly [K in keyof F]: Widened<F[K]> } {
  try {
    const options = Object.fromEntries(
      Object.entries(defaults).map(([name, byDefault]) => [name, { type: typeof byDefault === "boolean" ? "boolean" : "string" } as const]),
    );
    const { values } = parseArgs({ options });
    const told = Object.entries(defaults).map(([name, byDefault]) => {
      const text = values[name];
      if (typeof byDefault === "boolean") return [name, text === true];
      return [name, typeof text === "string" ? read(name, text, byDefault) : byDefault];
    });
    return Object.fromEntries(told) as { readonly [K in keyof F]: Widened<F[K]> };
  } catch (error) {
    if (!(error instanceof WrongFlag || (error instanceof TypeError && "code" in error))) throw error;
    const flags = Object.entries(defaults).map(([name, byDefault]) => `--${name} ${String(byDefault)}`);
    console.error(`${basename(process.argv[1] ?? "", ".ts")}: ${error.message}\nThe flags and their defaults: ${flags.join(" ")}`);
    process.exit(2);
  }
}

/**
 * Whether no flag asks for less than its default does: no number below it, no list without one of its values, no other text. A result that was
 * measured with less does not take the place of a whole one.
 */
export function asksForAll<F extends Readonly<Record<string, Flag>>>(asked: { readonly [K in keyof F]: Flag }, defaults: F): boolean {
  return Object.entries(defaults).every(([name, byDefault]) => {
    const value = asked[name];
    if (typeof byDefault === "number") return typeof value === "number" && value >= byDefault;
    if (typeof byDefault === "string" || typeof byDefault === "boolean") return value === byDefault;
    const values = new Set<number | string>(typeof value === "object" ? value : []);
    return byDefault.every((each) => values.has(each));
  });
}
