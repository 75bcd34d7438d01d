// Greets: {"name": "Ada"} becomes {"greeting": "Hello, Ada!"}.

export const handler = {
  run(input) {
    const { name = 'world' } = JSON.parse(input) ?? {};
    console.log(`greeting ${name}`);
    return JSON.stringify({ greeting: `Hello, ${name}!` });
  },
};
