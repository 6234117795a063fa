/**
 * Converts between this program's words and the names of enum values in the contract: `load-aware` for users and in code, `LOAD_AWARE` in the
 * contract.
 */

/** The name that the contract uses for a word. */
export type EnumName<W extends string> = W extends `${infer First}-${infer Rest}` ? `${Uppercase<First>}_${EnumName<Rest>}` : Uppercase<W>;

/** The name that the contract uses for one of this program's words. `tsc` rejects a word if the enum has no such value. */
export function enumName<const W extends string>(word: W): EnumName<W> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the expression implements the type
  return word.toUpperCase().replaceAll("-", "_") as EnumName<W>;
}

/** An enum from the contract, with its values by name and its names by value. */
export type ProtoEnum = Readonly<Record<string, string | number>>;

/** The value of a word, or 0 if the word is absent or has no value in the enum. */
export function enumValue<E extends ProtoEnum>(values: E, word: string | undefined): E[keyof E] {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each name has a value of the enum, whose zero is 0
  return (word === undefined ? 0 : (values[enumName(word)] ?? 0)) as E[keyof E];
}

/** The word for a value. Empty for 0. For a value that only a newer version knows, it is the number. */
export function enumWord(values: ProtoEnum, value: number): string {
  return value === 0
    ? ""
    : String(values[value] ?? value)
        .toLowerCase()
        .replaceAll("_", "-");
}
