/** Words and the names of enum values in the contract: people and our code say `load-aware`, the contract says `LOAD_AWARE`. */

/** The name of a word in the contract. */
export type EnumName<W extends string> = W extends `${infer First}-${infer Rest}` ? `${Uppercase<First>}_${EnumName<Rest>}` : Uppercase<W>;

/** The name in the contract of one of our words. `tsc` refuses a word for which the enum that it indexes has no value. */
export function enumName<const W extends string>(word: W): EnumName<W> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what the type says, done
  return word.toUpperCase().replaceAll("-", "_") as EnumName<W>;
}

/** An enum of the contract, which has its values by name and its names by value. */
export type ProtoEnum = Readonly<Record<string, string | number>>;

/** The value of a word; the zero for an absent word, and for one that the enum does not have. */
export function enumValue<E extends ProtoEnum>(values: E, word: string | undefined): E[keyof E] {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each name has a value of the enum, whose zero is 0
  return (word === undefined ? 0 : (values[enumName(word)] ?? 0)) as E[keyof E];
}

/** The word of a value. Empty for the zero, and the number for a value that only a newer program knows. */
export function enumWord(values: ProtoEnum, value: number): string {
  return value === 0
    ? ""
    : String(values[value] ?? value)
        .toLowerCase()
        .replaceAll("_", "-");
}
