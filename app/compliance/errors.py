"""What can go wrong with documents, in words for the client or the reviewer."""

from __future__ import annotations

from typing import Any

from app.core.errors import N_, AppError, Conflict, InvalidInput


class RefusedFile(InvalidInput):
    """The file is not taken; subclasses say why. The sentence stands at the file field too."""

    code = "documents.refused_file"
    message = N_("This file was not taken.")

    def __init__(self, **data: Any) -> None:
        super().__init__({"file": self.message}, **data)


class EmptyFile(RefusedFile):
    code = "documents.empty_file"
    message = N_("This file is empty. Please choose another one.")


class FileTooLarge(RefusedFile):
    code = "documents.file_too_large"
    http_status = 413
    message = N_("This file is too large: %(limit_mb)s MB at most.")


class UnknownContent(RefusedFile):
    code = "documents.unknown_content"
    http_status = 415
    message = N_("This is not a JPEG, a PNG or a PDF. Please choose a photo or a scan in one of these formats.")


class BrokenFile(RefusedFile):
    code = "documents.broken_file"
    message = N_("This file cannot be read to its end. Perhaps it was not copied completely; please choose another one.")


class PictureTooLarge(RefusedFile):
    code = "documents.picture_too_large"
    message = N_("This picture has too many pixels: %(limit_megapixels)s million at most.")


class EncryptedPDF(RefusedFile):
    code = "documents.encrypted_pdf"
    message = N_("This PDF is protected by a password. Please save it without one and send it again.")


class ActivePDF(RefusedFile):
    code = "documents.active_pdf"
    message = N_("This PDF holds a program or another file. Please print it to a new PDF, or take a photo, and send that.")


class TooManyPages(RefusedFile):
    code = "documents.too_many_pages"
    message = N_("This PDF is too long: %(limit)s pages at most. Please send the pages that show your name and address.")


class MailNotVerified(Conflict):
    code = "documents.mail_not_verified"
    message = N_("Please confirm your mail address first. Then you can send documents.")


class AlreadyApproved(Conflict):
    code = "documents.already_approved"
    message = N_("This proof is approved already. You need not send another one.")


class TooManyDocuments(Conflict):
    code = "documents.too_many"
    message = N_("You have sent %(most)s files for this proof. Please write to us, and we will find a way together.")


class AlreadyReviewed(Conflict):
    """Somebody else decided first. `data` has by and at."""

    code = "documents.already_reviewed"
    message = N_("%(by)s rejected this document before you, at %(at)s UTC. Nothing was changed by you.")
    message_approved = N_("%(by)s approved this document before you, at %(at)s UTC. Nothing was changed by you.")


class DocumentReplaced(Conflict):
    code = "documents.replaced"
    message = N_("The client has sent a newer file in the meantime. Please judge that one. Nothing was changed by you.")


class CategoryUnchanged(Conflict):
    code = "clients.category_unchanged"
    message = N_("The client is of this category already.")


class DocumentUnreadable(AppError):
    """The stored file is missing, was changed, or is sealed with another key."""

    code = "documents.unreadable"
    http_status = 500
    message = N_("The stored file cannot be opened. Please tell the administrator; the client may have to send it again.")
