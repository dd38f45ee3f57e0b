"""The API reference is what people without the repository read, so it has to be whole and its links have to lead on."""

import re
import subprocess
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tools.api_reference import packages, to_index, to_page, write

PROJECT = Path(__file__).parents[1]

SHOP = """
syntax = "proto3";

// Sells things.
package shop.v1;

import "guyline/access/v1/access.proto";

// Takes orders.
//
// Day and night.
service OrderService {
  // Places an order. Pays later.
  rpc Place(PlaceRequest) returns (PlaceResponse) {
    option (guyline.access.v1.needs) = RIGHT_WRITE;
  }
  // Follows an order.
  rpc Follow(FollowRequest) returns (stream FollowResponse);
  // Brings things back.
  rpc Return(stream ReturnRequest) returns (ReturnResponse);
}

// What to buy.
message PlaceRequest {
  // How much of what: `a|b`.
  //
  // At most ten.
  map<string, Item> items = 1;
  // How to pay.
  oneof payment {
    // In coins.
    uint32 cash = 2;
    // On paper.
    string invoice = 3;
  }
  // A word to the packer.
  optional string note = 4;
  // Nested, and of the same name as another.
  message Item {
    // How it is wrapped.
    enum Wrap {
      // Not at all.
      WRAP_UNSPECIFIED = 0;
    }
    // Its wrap.
    Wrap wrap = 1;
  }
}
// The order's name.
message PlaceResponse {}
// Which order.
message FollowRequest {}
// Where it is.
message FollowResponse {}
// What comes back.
message ReturnRequest {}
// Thanks.
message ReturnResponse {}
"""


def image_of(*paths: Path) -> FileDescriptorSet:
    built = subprocess.run(
        ["buf", "build", "--output", "-#format=binpb", *paths], check=True, capture_output=True, cwd=PROJECT
    )
    return FileDescriptorSet.FromString(built.stdout)


@pytest.fixture(scope="module")
def project() -> FileDescriptorSet:
    return image_of()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a package that has one of everything."""
    protos = tmp_path_factory.mktemp("protos")
    (protos / "shop.proto").write_text(SHOP)
    access = PROJECT / "proto/guyline/access/v1/access.proto"
    (protos / "guyline/access/v1").mkdir(parents=True)
    (protos / "guyline/access/v1/access.proto").write_bytes(access.read_bytes())
    return next(to_page(package) for package in packages(image_of(protos)) if package.name == "shop.v1")


def test_a_call_says_its_kind_and_the_right_it_needs(shop: str) -> None:
    """Whoever writes a client plans by these two."""
    assert "| [Place](#orderserviceplace) | unary | write | Places an order. |" in shop
    assert "| [Follow](#orderservicefollow) | server stream |  | Follows an order. |" in shop
    assert "| [Return](#orderservicereturn) | client stream |  | Brings things back. |" in shop
    assert "`/shop.v1.OrderService/Follow` takes [`FollowRequest`](#followrequest) and gives a stream of" in shop


def test_comments_stand_as_they_were_written(shop: str) -> None:
    """The comments are the manual: losing a paragraph of one loses a promise."""
    assert "# shop.v1\n\nSells things.\n" in shop
    assert "## OrderService\n\nTakes orders.\n\nDay and night.\n" in shop
    assert "Places an order. Pays later.\n" in shop


def test_a_field_is_a_row_whatever_its_type(shop: str) -> None:
    """Maps, choices and optional fields look in a descriptor like something else that no reader should meet."""
    item = "[`PlaceRequest.Item`](#placerequestitem)"
    assert f"| `items` | 1 | map of `string` to {item} | How much of what: `a\\|b`.<br>At most ten. |" in shop
    assert "| `cash` | 2 | `uint32`<br>one of `payment` | In coins. |" in shop
    assert "| `note` | 4 | optional `string` | A word to the packer. |" in shop
    assert "ItemsEntry" not in shop


def test_nested_types_have_their_outer_name(shop: str) -> None:
    """Two messages may each nest a type of the same name."""
    assert "### PlaceRequest.Item\n" in shop
    assert "### PlaceRequest.Item.Wrap\n\nHow it is wrapped.\n" in shop
    assert "[`PlaceRequest.Item.Wrap`](#placerequestitemwrap)" in shop


def test_every_link_leads_to_a_heading(project: FileDescriptorSet) -> None:
    """A reference whose links go nowhere is read once."""
    found = packages(project)
    pages = {package.page: to_page(package) for package in found} | {"README.md": to_index(found)}
    headings = {page: re.findall(r"^#+ (.+)$", text, re.MULTILINE) for page, text in pages.items()}
    anchors = {page: [heading.lower().replace(".", "") for heading in found] for page, found in headings.items()}

    links = [
        (target or page, anchor)
        for page, text in pages.items()
        for target, anchor in re.findall(r"\]\((?!https:)([^)#]*)#?([^)]*)\)", text)
    ]

    assert links
    assert [link for link in links if link[0] not in pages or (link[1] and link[1] not in anchors[link[0]])] == []
    assert all(len(set(names)) == len(names) for names in anchors.values()), "two headings share an anchor"


def test_everything_in_the_protos_is_in_the_reference(project: FileDescriptorSet) -> None:
    """A call that is missing here does not exist for those who read it."""
    text = "\n".join(to_page(package) for package in packages(project))

    for file in project.file:
        if file.package.startswith("guyline."):
            for service in file.service:
                assert all(f"### {service.name}.{method.name}\n" in text for method in service.method)
            for message in file.message_type:
                assert f"### {message.name}\n" in text
                assert all(f"| `{field.name}` | {field.number} |" in text for field in message.field)
            for enum in file.enum_type:
                assert all(f"| `{value.name}` | {value.number} |" in text for value in enum.value)


def test_the_order_of_the_files_does_not_matter(project: FileDescriptorSet) -> None:
    """Otherwise the check that the committed reference is current would fail by chance."""
    turned = FileDescriptorSet(file=reversed(project.file))

    assert [to_page(package) for package in packages(turned)] == [to_page(package) for package in packages(project)]


def test_the_page_of_a_package_that_is_gone_goes_too(project: FileDescriptorSet, tmp_path: Path) -> None:
    """Else the reference would go on describing what was removed."""
    (tmp_path / "guyline.gone.v1.md").write_text("# guyline.gone.v1\n")

    write(project, tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["README.md", *(package.page for package in packages(project))]
    )
