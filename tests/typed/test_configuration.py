"""docs/configuration.md: the files of teams, as they stand there."""

from tests.typed.page import plays

PAGE = "docs/configuration.md"


@plays(PAGE, "Files for teams")
def test_check_lists_the_tunnels_with_their_files(script, on_stage):
    with on_stage({}) as (_, stage):
        stage.profiles("prod")
        stage.write(script.block())
        stage.write(script.block(number=1), "~/.config/ssmtunneld/conf.d/search.toml")
        stage.write(script.page.block(""), "~/src/orders/tunnels.toml")
        done = stage.run(script.words("ssmtunneld check"))
        listed = {line.split(":")[0].strip(): line for line in done.stdout.splitlines()}
        assert "conf.d/search.toml" in listed["search"]
        assert "src/orders/tunnels.toml" in listed["orders-db"]
        shown = stage.run(script.words("ssmtunneld config show")).stdout
        assert 'target = "tag:Role=search-bastion"' in shown
        assert shown.count('profile = "prod"') == 2
